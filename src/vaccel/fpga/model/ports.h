// The two halves of an HP port: slaves to a kernel's m_axi (IHI 0022). One id, answers in order.
#pragma once
#include "design.h"
#include "events.h"
#include "memory.h"

constexpr unsigned QUEUE = 8;         // bursts that each half accepts at a time
constexpr unsigned LONGEST = 16;      // beats in a burst: AXI3, as HP ports are (UG585, 5.1)
constexpr uint64_t PAGE = 4096;       // no burst crosses one (IHI 0022, A3.4.1)
constexpr unsigned OKAY = 0, DECERR = 3;

struct Burst {
  uint64_t address;
  unsigned beats;
  bool refused;
  uint64_t due;  // the cycle of its first answer
};

template <class Item, unsigned N> class Queue {
 public:
  bool empty() const { return first_ == last_; }
  bool full() const { return last_ - first_ == N; }
  Item &front() { return items_[first_ % N]; }
  void push(const Item &item) { items_[last_++ % N] = item; }
  void pop() { first_++; }

 private:
  Item items_[N];
  unsigned first_ = 0, last_ = 0;
};

// A valid without a ready stays, and so does what it is about (IHI 0022, A3.2.1).
class Held {
 public:
  // Whether the rule is kept in this cycle.
  bool look(bool valid, bool ready, uint64_t value, uint64_t more = 0) {
    bool kept = !waiting_ || (valid && value == value_ && more == more_);
    waiting_ = valid && !ready;
    value_ = value;
    more_ = more;
    return kept;
  }

 private:
  bool waiting_ = false;
  uint64_t value_ = 0, more_ = 0;
};

// What is wrong with a burst by the rules of AXI3, or null.
inline const char *fault_of(uint64_t address, unsigned beats, uint64_t size, uint64_t kind) {
  if (beats > LONGEST) return "a burst has more than 16 beats";
  if (size != 3) return "a burst's beats have not 8 bytes";
  if (kind != 1) return "a burst is not of the kind INCR";
  if (address % 8) return "a burst's address is not a multiple of 8";
  if (address / PAGE != (address + 8 * beats - 1) / PAGE) return "a burst crosses 4 KiB";
  return nullptr;
}

class ReadPort {
 public:
  const char *violation = nullptr;

  void drive(Design &design, Memory &memory, uint64_t now) {
    Design &d = design;
    ready_ = !queue_.full() && !memory.stalls();
    valid_ = valid_ || (!queue_.empty() && queue_.front().due <= now && !memory.stalls());
    set(d.M_AXI(arready), ready_);
    set(d.M_AXI(rvalid), valid_);
    if (!valid_) return;
    const Burst &burst = queue_.front();
    set(d.M_AXI(rdata), burst.refused ? 0 : memory.read(burst.address + 8 * beat_));
    set(d.M_AXI(rlast), beat_ + 1 == burst.beats);
    set(d.M_AXI(rresp), burst.refused ? DECERR : OKAY);
  }

  void look(Design &design, Memory &memory, Events &events, uint64_t now) {
    Design &d = design;
    bool wanted = get(d.M_AXI(arvalid));
    uint64_t address = get(d.M_AXI(araddr)), len = get(d.M_AXI(arlen));
    if (!held_.look(wanted, ready_, address, len)) violation = "a read burst is taken back";
    if (wanted && ready_) {
      unsigned beats = len + 1;
      if (auto wrong = fault_of(address, beats, get(d.M_AXI(arsize)), get(d.M_AXI(arburst))))
        violation = wrong;
      bool refused = !memory.holds(address, beats, false);
      queue_.push({address, beats, refused, now + memory.read_latency});
      events.note(Kind::READ_BURST, address, beats);
    }
    if (valid_ && get(d.M_AXI(rready))) {
      const Burst &burst = queue_.front();
      valid_ = false;
      if (++beat_ < burst.beats) return;
      events.note(Kind::READ_LAST, burst.address, burst.refused ? DECERR : OKAY);
      queue_.pop();
      beat_ = 0;
    }
  }

 private:
  Queue<Burst, QUEUE> queue_;
  Held held_;
  unsigned beat_ = 0;
  bool ready_ = false, valid_ = false;
};

class WritePort {
 public:
  const char *violation = nullptr;

  void drive(Design &design, Memory &memory, uint64_t now) {
    Design &d = design;
    // Data is taken for bursts that are known, and while there is room for their answers.
    ready_ = !queue_.full() && !memory.stalls();
    data_ready_ = !queue_.empty() && !answers_.full() && !memory.stalls();
    valid_ = valid_ || (!answers_.empty() && answers_.front().due <= now && !memory.stalls());
    set(d.M_AXI(awready), ready_);
    set(d.M_AXI(wready), data_ready_);
    set(d.M_AXI(bvalid), valid_);
    if (valid_) set(d.M_AXI(bresp), answers_.front().refused ? DECERR : OKAY);
  }

  void look(Design &design, Memory &memory, Events &events, uint64_t now) {
    Design &d = design;
    take_data(d, memory, events, now);
    bool wanted = get(d.M_AXI(awvalid));
    uint64_t address = get(d.M_AXI(awaddr)), len = get(d.M_AXI(awlen));
    if (!held_.look(wanted, ready_, address, len)) violation = "a write burst is taken back";
    if (wanted && ready_) {
      unsigned beats = len + 1;
      if (auto wrong = fault_of(address, beats, get(d.M_AXI(awsize)), get(d.M_AXI(awburst))))
        violation = wrong;
      queue_.push({address, beats, !memory.holds(address, beats, true), 0});
      events.note(Kind::WRITE_BURST, address, beats);
    }
    if (valid_ && get(d.M_AXI(bready))) {
      const Burst &burst = answers_.front();
      events.note(Kind::WRITE_RESPONSE, burst.address, burst.refused ? DECERR : OKAY);
      valid_ = false;
      answers_.pop();
    }
  }

 private:
  Queue<Burst, QUEUE> queue_;
  Queue<Burst, 2 * QUEUE> answers_;
  Held held_, held_data_;
  unsigned beat_ = 0;
  bool ready_ = false, data_ready_ = false, valid_ = false;

  void take_data(Design &d, Memory &memory, Events &events, uint64_t now) {
    bool offered = get(d.M_AXI(wvalid)), last = get(d.M_AXI(wlast));
    uint64_t word = get(d.M_AXI(wdata)), strobe = get(d.M_AXI(wstrb));
    if (!held_data_.look(offered, data_ready_, word, strobe << 1 | last))
      violation = "a word to be written is taken back";
    if (!offered || !data_ready_) return;
    Burst &burst = queue_.front();
    if (!burst.refused) memory.write(burst.address + 8 * beat_, word, strobe);
    beat_++;
    if (last != (beat_ == burst.beats)) violation = "wlast is not with the last beat of a burst";
    if (beat_ < burst.beats) return;
    events.note(Kind::WRITE_LAST, burst.address, burst.beats);
    burst.due = now + memory.write_latency;
    answers_.push(burst);
    queue_.pop();
    beat_ = 0;
  }
};

// The processing system around a kernel: DDR behind its m_axi, the master of its s_axi, the clock.
//
// A cycle: drive the kernel's inputs, let its logic settle, look at its outputs, raise the clock.
#pragma once
#include <chrono>

#include "ports.h"
#include "registers.h"

constexpr unsigned PATIENCE = 1000;  // cycles for an access to a register

class System {
 public:
  // `clock` counts the cycles of all kernels of a board; each adds those in which it is at work.
  System(uint8_t *memory, uint64_t base, uint64_t size, uint64_t *clock)
      : memory(memory, base, size), events(clock), clock_(clock) {
    reset();
  }

  Memory memory;
  Events events;
  ReadPort reads;
  WritePort writes;
  const char *violation = nullptr;

  bool interrupts() const { return irq_; }

  bool write(uint32_t address, uint32_t value) {
    set(d.S_AXI(awaddr), address);
    set(d.S_AXI(wdata), value);
    set(d.S_AXI(wstrb), 0xf);
    bool address_taken = false, data_taken = false, answered = false;
    for (unsigned i = 0; i < PATIENCE && !answered; i++) {
      set(d.S_AXI(awvalid), !address_taken);
      set(d.S_AXI(wvalid), !data_taken);
      settle();
      bool taken = address_taken && data_taken;
      answered = taken && get(d.S_AXI(bvalid));
      address_taken |= get(d.S_AXI(awready));
      data_taken |= get(d.S_AXI(wready));
      if (!taken && address_taken && data_taken) note_write(address, value);
      raise();
    }
    set(d.S_AXI(awvalid), 0);
    set(d.S_AXI(wvalid), 0);
    return answered;
  }

  bool read(uint32_t address, uint32_t *value) {
    set(d.S_AXI(araddr), address);
    bool taken = false, answered = false;
    for (unsigned i = 0; i < PATIENCE && !answered; i++) {
      set(d.S_AXI(arvalid), !taken);
      settle();
      answered = taken && get(d.S_AXI(rvalid));
      if (answered) note_read(address, *value = get(d.S_AXI(rdata)));
      taken |= get(d.S_AXI(arready));
      raise();
    }
    set(d.S_AXI(arvalid), 0);
    return answered;
  }

  // Until the kernel interrupts, for so many cycles and about so many milliseconds at most.
  // Returns the cycles that passed.
  uint64_t run(uint64_t cycles, unsigned milliseconds) {
    using Time = std::chrono::steady_clock;
    auto end = Time::now() + std::chrono::milliseconds(milliseconds);
    uint64_t passed = 0;
    while (passed < cycles && !irq_ && !violation) {
      settle();
      raise();
      if (++passed % 256 == 0 && Time::now() >= end) break;
    }
    return passed;
  }

 private:
  Design d;
  uint64_t *clock_;
  bool irq_ = false, busy_ = false;

  void reset() {
    set(d.S_AXI(bready), 1);
    set(d.S_AXI(rready), 1);
    set(d.PIN(rst), 1);
    for (int i = 0; i < 4; i++) tick();
    set(d.PIN(rst), 0);
    tick();
  }

  void tick() {
    set(d.PIN(clk), 0);
    d.settle();
    raise();
  }

  void settle() {
    reads.drive(d, memory, *clock_);
    writes.drive(d, memory, *clock_);
    set(d.PIN(clk), 0);
    d.settle();
    reads.look(d, memory, events, *clock_);
    writes.look(d, memory, events, *clock_);
    if (reads.violation || writes.violation)
      violation = reads.violation ? reads.violation : writes.violation;
    if (get(d.PIN(irq)) != irq_) toggle_irq();
  }

  void raise() {
    set(d.PIN(clk), 1);
    d.settle();
    ++*clock_;
  }

  void toggle_irq() {
    irq_ = !irq_;
    if (irq_) is_done();
    events.note(irq_ ? Kind::INTERRUPT_UP : Kind::INTERRUPT_DOWN);
  }

  void note_write(uint32_t address, uint32_t value) {
    events.note(Kind::REGISTER_WRITE, address, value);
    if (address != CONTROL || !(value & START) || busy_) return;
    events.note(Kind::BUSY);
    busy_ = true;
  }

  void note_read(uint32_t address, uint32_t value) {
    events.note(Kind::REGISTER_READ, address, value);
    if (address == CONTROL && (value & IS_DONE)) is_done();
  }

  void is_done() {
    if (busy_) events.note(Kind::DONE);
    busy_ = false;
  }
};

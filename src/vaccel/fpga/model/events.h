// What can be seen from outside a kernel, cycle by cycle.
#pragma once
#include <cstdint>
#include <vector>

// The names are those of `Kind` in system.py.
enum class Kind : uint64_t {
  REGISTER_READ,
  REGISTER_WRITE,
  READ_BURST,
  READ_LAST,
  WRITE_BURST,
  WRITE_LAST,
  WRITE_RESPONSE,
  BUSY,
  DONE,
  INTERRUPT_UP,
  INTERRUPT_DOWN,
};

struct Event {
  uint64_t cycle;
  Kind kind;
  uint64_t address;
  uint64_t value;
};

class Events {
 public:
  explicit Events(const uint64_t *clock) : clock_(clock) {}

  bool recording = false;
  std::vector<Event> events;

  void note(Kind kind, uint64_t address = 0, uint64_t value = 0) {
    if (recording) events.push_back({*clock_, kind, address, value});
  }

 private:
  const uint64_t *clock_;
};

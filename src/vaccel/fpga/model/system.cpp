// The C interface, for ctypes (system.py).
#include "system.h"

#define API extern "C" __attribute__((visibility("default")))

API System *ps_create(uint8_t *memory, uint64_t base, uint64_t size, uint64_t *clock) {
  return new System(memory, base, size, clock);
}

API void ps_destroy(System *system) { delete system; }

API void ps_set_timing(System *system, uint64_t read_latency, uint64_t write_latency,
                       uint64_t stall_threshold, uint32_t seed) {
  system->memory.read_latency = read_latency;
  system->memory.write_latency = write_latency;
  system->memory.stall(stall_threshold, seed);
}

// The two accesses to registers: whether the kernel answered, and broke no rule.
API bool ps_write(System *system, uint32_t address, uint32_t value) {
  return system->write(address, value) && !system->violation;
}

API bool ps_read(System *system, uint32_t address, uint32_t *value) {
  return system->read(address, value) && !system->violation;
}

API uint64_t ps_run(System *system, uint64_t cycles, unsigned milliseconds) {
  return system->run(cycles, milliseconds);
}

API bool ps_interrupts(const System *system) { return system->interrupts(); }

// Which rule of AXI the kernel broke, or null.
API const char *ps_violation(const System *system) { return system->violation; }

API size_t ps_refused(const System *system, const Refused **refused) {
  *refused = system->memory.refused.data();
  return system->memory.refused.size();
}

API void ps_record(System *system, bool on) {
  system->events.events.clear();
  system->events.recording = on;
}

// Valid until the system is used again.
API size_t ps_events(const System *system, const Event **events) {
  *events = system->events.events.data();
  return system->events.events.size();
}

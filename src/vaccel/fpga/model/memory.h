// The DDR: the caller's memory, and the time it takes.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

struct Refused {
  uint64_t address;
  uint64_t is_write;
};

class Memory {
 public:
  Memory(uint8_t *bytes, uint64_t base, uint64_t size) : bytes_(bytes), base_(base), size_(size) {}

  uint64_t read_latency = 20, write_latency = 20;  // from an accepted burst to its first answer
  std::vector<Refused> refused;

  // A wait state begins with the probability threshold / 2^32; 2^32 stalls for good.
  void stall(uint64_t threshold, uint32_t seed) {
    threshold_ = threshold;
    random_ = seed ? seed : 1;
  }

  bool stalls() {
    if (!threshold_) return false;
    random_ ^= random_ << 13;  // xorshift32
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    return random_ <= threshold_ - 1;
  }

  // Whether all of a burst lies in the memory; one that does not is noted, and gets DECERR.
  bool holds(uint64_t address, unsigned beats, bool is_write) {
    if (address >= base_ && address + 8 * beats <= base_ + size_) return true;
    if (refused.size() < MOST_NOTED) refused.push_back({address, is_write});
    return false;
  }

  uint64_t read(uint64_t address) const {
    uint64_t word;
    memcpy(&word, bytes_ + (address - base_), 8);
    return word;
  }

  void write(uint64_t address, uint64_t word, unsigned strobe) {
    uint8_t *to = bytes_ + (address - base_);
    if (strobe == 0xff) {
      memcpy(to, &word, 8);
      return;
    }
    for (unsigned i = 0; i < 8; i++)
      if (strobe >> i & 1) to[i] = word >> (8 * i);
  }

 private:
  static constexpr size_t MOST_NOTED = 1024;

  uint8_t *bytes_;
  uint64_t base_, size_;
  uint64_t threshold_ = 0;
  uint32_t random_ = 1;
};

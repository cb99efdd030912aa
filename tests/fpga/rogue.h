// A kernel that does as its registers say, right or wrong; in the form of a design of CXXRTL.
#pragma once
#include <cstdint>

namespace cxxrtl_design {

struct Port {
  uint64_t value = 0;
  template <class T> T get() const { return value; }
  template <class T> void set(T to) { value = to; }
  operator uint64_t() const { return value; }
  Port &operator=(uint64_t to) {
    value = to;
    return *this;
  }
  Port &operator=(const Port &other) = default;
};

struct p_rogue {
  Port p_clk, p_rst, p_irq;
  Port p_s__axi__awaddr, p_s__axi__awvalid, p_s__axi__awready;
  Port p_s__axi__wdata, p_s__axi__wstrb, p_s__axi__wvalid, p_s__axi__wready;
  Port p_s__axi__bvalid, p_s__axi__bready;
  Port p_s__axi__araddr, p_s__axi__arvalid, p_s__axi__arready;
  Port p_s__axi__rdata, p_s__axi__rvalid, p_s__axi__rready;
  Port p_m__axi__araddr, p_m__axi__arlen, p_m__axi__arsize, p_m__axi__arburst;
  Port p_m__axi__arvalid, p_m__axi__arready;
  Port p_m__axi__rdata, p_m__axi__rresp, p_m__axi__rlast, p_m__axi__rvalid, p_m__axi__rready;
  Port p_m__axi__awaddr, p_m__axi__awlen, p_m__axi__awsize, p_m__axi__awburst;
  Port p_m__axi__awvalid, p_m__axi__awready;
  Port p_m__axi__wdata, p_m__axi__wstrb, p_m__axi__wlast, p_m__axi__wvalid, p_m__axi__wready;
  Port p_m__axi__bresp, p_m__axi__bvalid, p_m__axi__bready;

  enum { COMMAND, ADDRESS, BEATS, SIZE, KIND, LAST, STROBE, TAKES_BACK, WORD, RESPONSE, SILENT };
  enum { READ = 1, WRITE = 2, INTERRUPT = 3 };                  // commands
  enum { A_BURST = 1, DATA = 2 };                               // what it takes back
  static constexpr uint64_t FIRST_WORD = 0x0706050403020100;    // what it writes, and upwards

  uint64_t registers[16] = {};
  uint64_t beat = 0;
  bool was_high = false, writes = false;

  void step() {
    bool rises = p_clk && !was_high;
    was_high = p_clk;
    if (!rises) return;
    answer();
    go_on();
    begin();
  }

  void answer() {
    bool asked = p_s__axi__arvalid && p_s__axi__arready;
    p_s__axi__rvalid = asked;
    if (asked) p_s__axi__rdata = registers[p_s__axi__araddr / 4];
    bool told = p_s__axi__awvalid && p_s__axi__awready;
    p_s__axi__bvalid = told;
    if (told) registers[p_s__axi__awaddr / 4] = p_s__axi__wdata;
    p_s__axi__awready = p_s__axi__wready = p_s__axi__arready = !registers[SILENT];
  }

  // After what happened in the cycle that ends.
  void go_on() {
    bool takes_back = registers[TAKES_BACK] == A_BURST;
    if (p_m__axi__arready || takes_back) p_m__axi__arvalid = 0;
    if (p_m__axi__awready || takes_back) p_m__axi__awvalid = 0;
    if (p_m__axi__rvalid) {
      registers[WORD] = p_m__axi__rdata;
      registers[RESPONSE] = p_m__axi__rresp;
    }
    if (p_m__axi__bvalid) registers[RESPONSE] = p_m__axi__bresp;
    if (!writes) return;
    if (p_m__axi__wready)
      beat++;
    else if (registers[TAKES_BACK] == DATA)
      p_m__axi__wdata = ~p_m__axi__wdata;
    if (p_m__axi__wready) send();
  }

  void begin() {
    p_irq = registers[COMMAND] == INTERRUPT;
    p_m__axi__rready = p_m__axi__bready = 1;
    if (registers[COMMAND] == READ) {
      p_m__axi__araddr = registers[ADDRESS];
      p_m__axi__arlen = registers[BEATS] - 1;
      p_m__axi__arsize = registers[SIZE];
      p_m__axi__arburst = registers[KIND];
      p_m__axi__arvalid = 1;
    } else if (registers[COMMAND] == WRITE) {
      p_m__axi__awaddr = registers[ADDRESS];
      p_m__axi__awlen = registers[BEATS] - 1;
      p_m__axi__awsize = registers[SIZE];
      p_m__axi__awburst = registers[KIND];
      p_m__axi__awvalid = 1;
      beat = 0;
      send();
    }
    if (!p_irq) registers[COMMAND] = 0;
  }

  void send() {
    writes = p_m__axi__wvalid = beat < registers[BEATS];
    p_m__axi__wdata = FIRST_WORD + beat;
    p_m__axi__wlast = beat + 1 == registers[LAST];
    p_m__axi__wstrb = registers[STROBE];
  }
};

}  // namespace cxxrtl_design

// The design as Verilator makes it: DESIGN is its class, DESIGN_HEADER declares it.
#pragma once
#include "verilated.h"
#include DESIGN_HEADER

struct Design {
  VerilatedContext context;  // of its own: several designs may run in one process
  DESIGN model{&context};

  // After it, outputs are valid if the clock is low.
  void settle() { model.eval(); }
};

#define PIN(name) model.name
#define S_AXI(name) model.s_axi_##name
#define M_AXI(name) model.m_axi_##name

template <class Port> uint64_t get(const Port &port) { return port; }
template <class Port> void set(Port &port, uint64_t value) { port = value; }

// The design as CXXRTL makes it: DESIGN is its class, DESIGN_HEADER declares it.
#pragma once
#include DESIGN_HEADER

struct Design {
  cxxrtl_design::DESIGN model;

  // After it, outputs are valid if the clock is low.
  void settle() { model.step(); }
};

// CXXRTL doubles the underscores of a name.
#define PIN(name) model.p_##name
#define S_AXI(name) model.p_s__axi__##name
#define M_AXI(name) model.p_m__axi__##name

template <class Port> uint64_t get(const Port &port) { return port.template get<uint64_t>(); }
template <class Port> void set(Port &port, uint64_t value) { port.template set<uint64_t>(value); }

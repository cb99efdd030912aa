# The block design: processing system, kernels, and what joins them.
#
#   M_AXI_GP0 -> SmartConnect -> registers of the interrupt controller and of each kernel
#   memory port of each kernel -> SmartConnect -> S_AXI_HP0
#   interrupt of each kernel -> concat -> interrupt controller -> IRQ_F2P

proc create_design {overlay kernels} {
    create_bd_design [dict get $overlay name]
    create_processor $overlay
    create_cells $overlay $kernels
    connect_clock_and_reset $overlay $kernels
    connect_registers $overlay $kernels
    connect_memory $overlay $kernels
    connect_interrupts $overlay $kernels
    assign_addresses $overlay $kernels
    validate_bd_design
    save_bd_design
}

# Boot loader and Linux have set up clocks, pins and memory before a bitstream is loaded; the values
# here are the board's, for the clock that Vivado times and for the addresses that it checks.
proc create_processor {overlay} {
    set ps [dict get $overlay processor]
    create_bd_cell -type ip -vlnv [dict get $overlay processor_vlnv] $ps
    set_property -dict [dict get $overlay processor_settings] [get_bd_cells $ps]
    create_bd_intf_port -mode Master -vlnv xilinx.com:interface:ddrx_rtl:1.0 DDR
    create_bd_intf_port -mode Master \
        -vlnv xilinx.com:display_processing_system7:fixedio_rtl:1.0 FIXED_IO
    foreach port {DDR FIXED_IO} {
        connect_bd_intf_net [get_bd_intf_pins $ps/$port] [get_bd_intf_ports $port]
    }
}

proc create_cells {overlay kernels} {
    set count [dict size $kernels]
    dict for {name kernel} $kernels {
        set vlnv [dict get $kernel vlnv]
        if {[llength [get_ipdefs -all $vlnv]] != 1} {
            error "expected the packaged IP $vlnv in the catalog, found: [get_ipdefs -all $vlnv]"
        }
        create_bd_cell -type ip -vlnv $vlnv $name
    }
    create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset:5.0 system_reset

    create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 control_fabric
    set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI [expr {$count + 1}]] \
        [get_bd_cells control_fabric]
    create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 memory_fabric
    set_property -dict [list CONFIG.NUM_SI $count CONFIG.NUM_MI 1] [get_bd_cells memory_fabric]

    set concat [dict get $overlay concat]
    create_bd_cell -type ip -vlnv [dict get $overlay concat_vlnv] $concat
    set_property CONFIG.NUM_PORTS $count [get_bd_cells $concat]
    # Levels, and told so: the controller cannot see it through the concat. Its output is one wire.
    set controller [dict get $overlay controller]
    create_bd_cell -type ip -vlnv [dict get $overlay controller_vlnv] $controller
    set_property -dict [list CONFIG.C_IRQ_CONNECTION 1 CONFIG.C_KIND_OF_INTR.VALUE_SRC USER \
        CONFIG.C_KIND_OF_INTR 0x00000000] [get_bd_cells $controller]
}

proc connect_clock_and_reset {overlay kernels} {
    set ps [dict get $overlay processor]
    set controller [dict get $overlay controller]
    set clocks [list $ps/[dict get $overlay registers_port]_ACLK \
        $ps/[dict get $overlay memory_port]_ACLK \
        system_reset/slowest_sync_clk control_fabric/aclk memory_fabric/aclk $controller/s_axi_aclk]
    set resets [list control_fabric/aresetn memory_fabric/aresetn $controller/s_axi_aresetn]
    dict for {name kernel} $kernels {
        lappend clocks $name/[dict get $overlay clock]
        lappend resets $name/[dict get $overlay reset]
    }
    foreach pin $clocks {
        connect_pins $ps/FCLK_CLK0 $pin
    }
    connect_pins $ps/FCLK_RESET0_N system_reset/ext_reset_in
    foreach pin $resets {
        connect_pins system_reset/peripheral_aresetn $pin
    }
}

proc connect_registers {overlay kernels} {
    connect_interfaces [dict get $overlay processor]/[dict get $overlay registers_port] \
        control_fabric/S00_AXI
    connect_interfaces control_fabric/M00_AXI \
        [dict get $overlay controller]/[dict get $overlay controller_registers]
    set index 1
    dict for {name kernel} $kernels {
        connect_interfaces control_fabric/[format M%02d_AXI $index] $name/[dict get $overlay control]
        incr index
    }
}

proc connect_memory {overlay kernels} {
    set index 0
    dict for {name kernel} $kernels {
        connect_interfaces $name/[dict get $overlay memory] memory_fabric/[format S%02d_AXI $index]
        incr index
    }
    connect_interfaces memory_fabric/M00_AXI \
        [dict get $overlay processor]/[dict get $overlay memory_port]
}

proc connect_interrupts {overlay kernels} {
    set concat [dict get $overlay concat]
    set controller [dict get $overlay controller]
    set index 0
    dict for {name kernel} $kernels {
        connect_pins $name/[dict get $overlay interrupt] $concat/In$index
        incr index
    }
    connect_pins $concat/dout $controller/intr
    connect_pins $controller/irq [dict get $overlay processor]/IRQ_F2P
}

proc assign_addresses {overlay kernels} {
    set ps [dict get $overlay processor]
    set processor [get_bd_addr_spaces $ps/Data]
    set ddr [get_bd_addr_segs \
        $ps/[dict get $overlay memory_port]/[dict get $overlay memory_block]]
    set pin [dict get $overlay controller]/[dict get $overlay controller_registers]
    assign $processor [segment $pin] \
        [dict get $overlay controller_base] [dict get $overlay window]
    dict for {name kernel} $kernels {
        set pin $name/[dict get $overlay control]
        assign $processor [segment $pin] [dict get $kernel base] [dict get $overlay window]
        set pin [get_bd_intf_pins $name/[dict get $overlay memory]]
        assign [get_bd_addr_spaces -of_objects $pin] $ddr 0 [dict get $overlay memory_bytes]
    }
}

proc segment {pin} {
    return [get_bd_addr_segs -of_objects [get_bd_intf_pins $pin]]
}

proc assign {space segment offset range} {
    assign_bd_address -offset $offset -range $range -target_address_space $space $segment -force
}

proc connect_pins {from to} {
    connect_bd_net [get_bd_pins $from] [get_bd_pins $to]
}

proc connect_interfaces {master slave} {
    connect_bd_intf_net [get_bd_intf_pins $master] [get_bd_intf_pins $slave]
}

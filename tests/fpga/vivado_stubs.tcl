# Stand-ins for the Vivado commands that the build scripts use: tclsh vivado_stubs.tcl build.tcl
#
# They keep a model of projects, packaged IP and block design, and refuse what it does not have: a
# command, an option, a property, a pin that is not there, an address that is taken. At the end the
# model is printed, one fact a line, words separated by tabs. Written after UG835 and the product
# guides of the IP (PG082, PG099, PG247, PG164), without Vivado at hand.
#
# VIVADO_FAIL=COMMAND:N makes the Nth call of COMMAND an error. VIVADO_WNS, VIVADO_WHS: the slacks.
# VIVADO_STUCK=RUN: that run does not end, as when synthesis fails.

proc unknown {args} {
    error "invalid command name \"[lindex $args 0]\""
}

proc fact {args} {
    puts [join $args \t]
}

proc setting {name default} {
    return [expr {[info exists ::env($name)] ? $::env($name) : $default}]
}

# Defines a command whose calls are counted, and one of which fails if that is asked for.
proc stub {name arguments body} {
    proc $name $arguments "called $name\n$body"
}

proc called {name} {
    set count [incr ::calls($name)]
    fact call $name
    if {[setting VIVADO_FAIL ""] eq "$name:$count"} {
        error "ERROR: \[Stub 1-1\] $name failed, as it was asked to"
    }
}

# Splits `words` into options and the rest. Flags take no value.
proc options {words valued {flags {}}} {
    set found {}
    set rest {}
    while {[llength $words]} {
        set words [lassign $words word]
        if {$word in $valued} {
            if {![llength $words]} {
                error "option $word has no value"
            }
            set words [lassign $words value]
            dict set found $word $value
        } elseif {$word in $flags} {
            dict set found $word 1
        } elseif {[string match -* $word] && ![string is double -strict $word]} {
            error "unknown option '$word'"
        } else {
            lappend rest $word
        }
    }
    return [list $found $rest]
}

proc expect {condition message} {
    if {![uplevel 1 [list expr $condition]]} {
        error [uplevel 1 [list subst $message]]
    }
}

# -- objects and their properties ---------------------------------------------------------------

set allowed(project) {ip_repo_paths DIRECTORY}
set allowed(fileset) {top}
set allowed(core) {name version display_name description supported_families}
set allowed(interface) {slave_memory_map_ref}
set allowed(map) {name}
set allowed(block) {base_address range width usage}
set allowed(register) {address_offset size access description}
set allowed(field) {bit_offset bit_width access description}
set allowed(run) {PROGRESS STATUS DIRECTORY STATS.WNS STATS.WHS}

set allowed(processing_system7) {
    PCW_CRYSTAL_PERIPHERAL_FREQMHZ PCW_UIPARAM_DDR_PARTNO PCW_UIPARAM_DDR_BUS_WIDTH
    PCW_FPGA0_PERIPHERAL_FREQMHZ PCW_FPGA_FCLK0_ENABLE PCW_EN_CLK0_PORT PCW_EN_RST0_PORT
    PCW_USE_M_AXI_GP0 PCW_USE_S_AXI_HP0 PCW_S_AXI_HP0_DATA_WIDTH
    PCW_USE_FABRIC_INTERRUPT PCW_IRQ_F2P_INTR
}
set allowed(proc_sys_reset) {}
set allowed(smartconnect) {NUM_SI NUM_MI NUM_CLKS}
set allowed(xlconcat) {NUM_PORTS}
set allowed(axi_intc) {C_IRQ_CONNECTION C_KIND_OF_INTR C_KIND_OF_INTR.VALUE_SRC}

# An object is a list: its kind and its name. Properties are in `property($object,$name)`.
proc kind {object} {
    return [lindex $object 0]
}

stub set_property {args} {
    lassign [options $args -dict] found rest
    if {[dict exists $found -dict]} {
        lassign $rest object
        set pairs [dict get $found -dict]
    } else {
        lassign $rest name value object
        set pairs [list $name $value]
    }
    expect {[llength $object] == 2} {set_property: expected one object, found '$object'}
    set kind [kind $object]
    foreach {name value} $pairs {
        if {$kind eq "cell"} {
            configure [lindex $object 1] $name $value
        } else {
            expect {$name in $::allowed($kind)} {no property $name on a $kind}
            set ::property($object,$name) $value
        }
    }
}

stub get_property {name object} {
    expect {[llength $object] == 2} {get_property: expected one object, found '$object'}
    expect {$name in $::allowed([kind $object])} {no property $name on a [kind $object]}
    return $::property($object,$name)
}

# -- projects -----------------------------------------------------------------------------------

stub version {args} {
    options $args {} -short
    return [setting VIVADO_VERSION 2024.1]
}

stub create_project {args} {
    lassign [options $args -part -force] found rest
    lassign $rest name directory
    expect {![info exists ::project]} {create_project: '$::project' is still open}
    expect {[dict get $found -part] eq "xc7z020clg400-1"} {unknown part [dict get $found -part]}
    set ::project $name
    set ::files {}
    set ::cores {}
    set ::property([list project $name],DIRECTORY) $directory
    file mkdir $directory
    fact project $name [dict get $found -part]
}

stub close_project {args} {
    options $args {}
    unset ::project ::files
}

stub current_project {} {
    return [list project $::project]
}

stub current_fileset {} {
    return [list fileset $::project]
}

stub add_files {args} {
    lassign [options $args {} -norecurse] found rest
    expect {[llength $rest] == 1} {add_files: expected one list of files, found '$rest'}
    foreach file [lindex $rest 0] {
        expect {[file isfile $file]} {add_files: there is no file $file}
        lappend ::files $file
    }
}

stub update_compile_order {args} {
    options $args -fileset
}

# -- packaging ----------------------------------------------------------------------------------

namespace eval ipx {}

# The interfaces of the top module, from the attributes in its Verilog.
proc interfaces {top} {
    foreach file $::files {
        set channel [open $file]
        set text [read $channel]
        close $channel
        if {[regexp -line "^module $top \\(" $text]} {
            set found {}
            set pattern {X_INTERFACE_INFO = "(\S+) (\S+) (\w+)"[^)]*\)\s+(input|output) wire}
            foreach {all vlnv name signal direction} [regexp -all -inline $pattern $text] {
                set mode [expr {$direction eq "input" ? "Slave" : "Master"}]
                if {$signal in {AWVALID CLK RST INTERRUPT}} {
                    dict set found $name [list $vlnv $mode]
                }
            }
            return $found
        }
    }
    error "no file has the module $top"
}

stub ipx::package_project {args} {
    set valued {-root_dir -vendor -library -taxonomy}
    lassign [options $args $valued {-import_files -force}] found rest
    set ::core [list core $::project]
    set ::root [dict get $found -root_dir]
    set ::vendor [dict get $found -vendor]
    set ::library [dict get $found -library]
    set ::interfaces [interfaces $::property([list fileset $::project],top)]
    file mkdir $::root
    # The packager makes a map of its own for a memory-mapped slave.
    set ::maps {}
    dict for {name about} $::interfaces {
        lassign $about vlnv mode
        if {[string match *:aximm:* $vlnv] && $mode eq "Slave"} {
            dict set ::maps $name {reg0 {}}
            set ::property([list map $name],name) $name
        }
    }
}

stub ipx::current_core {} {
    return $::core
}

stub ipx::get_memory_maps {args} {
    lassign [options $args -of_objects -quiet] found rest
    expect {[dict get $found -of_objects] eq $::core} {get_memory_maps: of what?}
    return [lmap name [dict keys $::maps] {list map $name}]
}

stub ipx::remove_memory_map {name core} {
    dict unset ::maps $name
}

stub ipx::add_memory_map {name core} {
    expect {![dict exists $::maps $name]} {there is a memory map $name already}
    dict set ::maps $name {}
    return [list map $name]
}

stub ipx::get_bus_interfaces {args} {
    lassign [options $args -of_objects] found rest
    expect {[dict exists $::interfaces $rest]} {the core has no interface $rest}
    return [list interface $rest]
}

stub ipx::add_address_block {name map} {
    dict set ::maps [lindex $map 1] $name {}
    return [list block $name]
}

stub ipx::add_register {name block} {
    set register [list register $name]
    lappend ::registers $register
    set ::fields($register) {}
    return $register
}

stub ipx::add_field {name register} {
    set field [list field [lindex $register 1]/$name]
    lappend ::fields($register) $field
    return $field
}

stub ipx::create_xgui_files {core} {}
stub ipx::update_checksums {core} {}
stub ipx::check_integrity {core} {}

stub ipx::save_core {core} {
    set name $::property($core,name)
    set vlnv $::vendor:$::library:$name:$::property($core,version)
    foreach register $::registers {
        set about [lmap key {address_offset size access description} {
            set ::property($register,$key)
        }]
        fact register $name [lindex $register 1] {*}$about
        foreach field $::fields($register) {
            set about [lmap key {bit_offset bit_width access description} {
                set ::property($field,$key)
            }]
            fact field $name {*}[split [lindex $field 1] /] {*}$about
        }
    }
    set ::registers {}
    dict for {map blocks} $::maps {
        set interface [list interface $map]
        expect {$::property($interface,slave_memory_map_ref) eq $map} {map $map has no interface}
        set block [list block [lindex $blocks 0]]
        fact block $name $map [lindex $blocks 0] $::property($block,range)
    }
    set channel [open [file join $::root component.xml] w]
    puts $channel [list $vlnv $::interfaces $::maps]
    close $channel
    fact ip $vlnv
}

set registers {}

stub update_ip_catalog {args} {
    options $args {} -rebuild
    foreach path [glob -directory $::property([list project $::project],ip_repo_paths) */*.xml] {
        set channel [open $path]
        lassign [read $channel] vlnv interfaces maps
        close $channel
        set ::catalog($vlnv) [list $interfaces $maps]
    }
}

stub get_ipdefs {args} {
    lassign [options $args {} -all] found rest
    return [array names ::catalog $rest]
}

# -- block design: cells and pins ---------------------------------------------------------------

array set catalog {
    xilinx.com:ip:processing_system7:5.5 {}
    xilinx.com:ip:proc_sys_reset:5.0 {}
    xilinx.com:ip:smartconnect:1.0 {}
    xilinx.com:ip:xlconcat:2.1 {}
    xilinx.com:ip:axi_intc:4.1 {}
}

stub create_bd_design {name} {
    set ::design $name
    set ::validated 0
}

stub create_bd_cell {args} {
    lassign [options $args {-type -vlnv}] found name
    set vlnv [dict get $found -vlnv]
    expect {[info exists ::catalog($vlnv)]} {there is no IP $vlnv}
    expect {![info exists ::cells($name)]} {there is a cell $name already}
    set ::cells($name) $vlnv
    set ::config($name) {}
    fact cell $name $vlnv
    return [list cell $name]
}

proc configure {cell name value} {
    expect {[regexp {^CONFIG\.(.+)$} $name all key]} {a cell has no property $name}
    set ip [lindex [split $::cells($cell) :] 2]
    expect {[info exists ::allowed($ip)] && $key in $::allowed($ip)} {$ip has no parameter $key}
    if {$key eq "C_KIND_OF_INTR"} {
        expect {[option $cell C_KIND_OF_INTR.VALUE_SRC] eq "USER"} {$key is not the user's to set}
    }
    dict set ::config($cell) $key $value
    fact config $cell $key $value
}

proc option {cell key {default ""}} {
    return [expr {[dict exists $::config($cell) $key] ? [dict get $::config($cell) $key] : $default}]
}

# The pins of a cell as it is configured: {name direction …}.
proc pins {cell} {
    set ip [lindex [split $::cells($cell) :] 2]
    switch $ip {
        processing_system7 {
            set found {}
            foreach {key pins} {
                PCW_EN_CLK0_PORT {FCLK_CLK0 O}
                PCW_EN_RST0_PORT {FCLK_RESET0_N O}
                PCW_USE_M_AXI_GP0 {M_AXI_GP0_ACLK I}
                PCW_USE_S_AXI_HP0 {S_AXI_HP0_ACLK I}
            } {
                if {[option $cell $key] eq "1"} {
                    lappend found {*}$pins
                }
            }
            if {[option $cell PCW_USE_FABRIC_INTERRUPT] eq "1" && [option $cell PCW_IRQ_F2P_INTR] eq "1"} {
                lappend found IRQ_F2P I
            }
            return $found
        }
        proc_sys_reset { return {slowest_sync_clk I ext_reset_in I peripheral_aresetn O} }
        smartconnect { return {aclk I aresetn I} }
        xlconcat {
            set found {dout O}
            for {set i 0} {$i < [option $cell NUM_PORTS 2]} {incr i} {
                lappend found In$i I
            }
            return $found
        }
        axi_intc {
            set found {s_axi_aclk I s_axi_aresetn I intr I}
            # Otherwise the output is part of an interface.
            if {[option $cell C_IRQ_CONNECTION 0] eq "1"} {
                lappend found irq O
            }
            return $found
        }
    }
    set found {}
    dict for {name about} [lindex $::catalog($::cells($cell)) 0] {
        lassign $about vlnv mode
        if {[string match *:signal:* $vlnv]} {
            lappend found $name [expr {$mode eq "Slave" ? "I" : "O"}]
        }
    }
    return $found
}

# The interfaces of a cell: {name mode …}.
proc intf_pins {cell} {
    set ip [lindex [split $::cells($cell) :] 2]
    switch $ip {
        processing_system7 {
            set found {DDR Master FIXED_IO Master}
            if {[option $cell PCW_USE_M_AXI_GP0] eq "1"} { lappend found M_AXI_GP0 Master }
            if {[option $cell PCW_USE_S_AXI_HP0] eq "1"} { lappend found S_AXI_HP0 Slave }
            return $found
        }
        smartconnect {
            set found {}
            for {set i 0} {$i < [option $cell NUM_SI 1]} {incr i} {
                lappend found [format S%02d_AXI $i] Slave
            }
            for {set i 0} {$i < [option $cell NUM_MI 1]} {incr i} {
                lappend found [format M%02d_AXI $i] Master
            }
            return $found
        }
        axi_intc { return {s_axi Slave} }
        proc_sys_reset - xlconcat { return {} }
    }
    set found {}
    dict for {name about} [lindex $::catalog($::cells($cell)) 0] {
        lassign $about vlnv mode
        if {[string match *:aximm:* $vlnv]} {
            lappend found $name $mode
        }
    }
    return $found
}

stub get_bd_cells {name} {
    expect {[info exists ::cells($name)]} {there is no cell $name}
    return [list cell $name]
}

stub get_bd_pins {path} {
    lassign [split $path /] cell pin
    expect {[info exists ::cells($cell)] && [dict exists [pins $cell] $pin]} {there is no pin $path}
    return [list pin $path]
}

stub get_bd_intf_pins {path} {
    lassign [split $path /] cell pin
    expect {[info exists ::cells($cell)] && [dict exists [intf_pins $cell] $pin]} {
        there is no interface pin $path
    }
    return [list intf_pin $path]
}

stub create_bd_intf_port {args} {
    lassign [options $args {-mode -vlnv}] found name
    lappend ::ports $name
}

stub get_bd_intf_ports {name} {
    expect {$name in $::ports} {there is no port $name}
    return [list port $name]
}

proc direction {pin} {
    lassign [split [lindex $pin 1] /] cell name
    return [dict get [pins $cell] $name]
}

stub connect_bd_net {from to} {
    expect {[direction $from] eq "O"} {$from does not drive}
    expect {[direction $to] eq "I"} {$to is no input}
    expect {![info exists ::driver($to)]} {$to is driven already}
    set ::driver($to) $from
    fact net [lindex $from 1] [lindex $to 1]
}

proc mode {pin} {
    lassign [split [lindex $pin 1] /] cell name
    return [dict get [intf_pins $cell] $name]
}

stub connect_bd_intf_net {from to} {
    expect {[mode $from] eq "Master"} {$from is no master}
    expect {[kind $to] eq "port" || [mode $to] eq "Slave"} {$to is no slave}
    foreach pin [list $from $to] {
        expect {![info exists ::joined($pin)]} {$pin is connected already}
        set ::joined($pin) 1
    }
    fact interface_net [lindex $from 1] [lindex $to 1]
}

# -- block design: addresses --------------------------------------------------------------------

stub get_bd_addr_spaces {args} {
    lassign [options $args -of_objects] found path
    if {[dict exists $found -of_objects]} {
        set pin [dict get $found -of_objects]
        expect {[mode $pin] eq "Master"} {$pin has no address space}
        return [list space [lindex $pin 1]]
    }
    lassign [split $path /] cell name
    expect {[string match *:processing_system7:* $::cells($cell)] && $name eq "Data"} {
        there is no address space $path
    }
    return [list space $path]
}

stub get_bd_addr_segs {args} {
    lassign [options $args -of_objects] found path
    if {[dict exists $found -of_objects]} {
        set pin [dict get $found -of_objects]
        expect {[mode $pin] eq "Slave"} {$pin has no segment}
        lassign [split [lindex $pin 1] /] cell name
        if {[string match *:axi_intc:* $::cells($cell)]} {
            return [list segment $cell/S_AXI/Reg]
        }
        set maps [lindex $::catalog($::cells($cell)) 1]
        return [list segment $cell/$name/[lindex [dict get $maps $name] 0]]
    }
    lassign [split $path /] cell name block
    expect {[dict exists [intf_pins $cell] $name] && $block eq "HP0_DDR_LOWOCM"} {
        there is no segment $path
    }
    return [list segment $path]
}

stub assign_bd_address {args} {
    lassign [options $args {-offset -range -target_address_space} -force] found segment
    set segment [lindex $segment 0]
    set space [dict get $found -target_address_space]
    expect {[kind $space] eq "space" && [kind $segment] eq "segment"} {assign_bd_address: what?}
    set first [expr {[dict get $found -offset]}]
    set size [expr {[dict get $found -range]}]
    expect {$size >= 4096 && ($size & ($size - 1)) == 0 && $first % $size == 0} {
        the range of $segment is no power of two, or lies across its size
    }
    foreach {other start length} [expr {[info exists ::map($space)] ? $::map($space) : {}}] {
        expect {$first + $size <= $start || $start + $length <= $first} {
            $segment would lie over $other
        }
    }
    lappend ::map($space) $segment $first $size
    fact address [lindex $space 1] [lindex $segment 1] $first $size
}

stub validate_bd_design {} {
    foreach cell [array names ::cells] {
        foreach {name direction} [pins $cell] { fact pin $cell/$name $direction }
        foreach {name mode} [intf_pins $cell] { fact interface $cell/$name $mode }
    }
    set ::validated 1
}

stub save_bd_design {} {
    set directory [file join $::property([list project $::project],DIRECTORY) \
        $::project.srcs sources_1 bd $::design]
    file mkdir $directory
    set ::bd [file join $directory $::design.bd]
    close [open $::bd w]
}

# -- synthesis and implementation ---------------------------------------------------------------

stub get_files {name} {
    expect {[info exists ::bd] && [file tail $::bd] eq $name} {there is no file $name}
    return $::bd
}

proc generated {} {
    return [file join $::property([list project $::project],DIRECTORY) $::project.gen sources_1 bd \
        $::design]
}

stub generate_target {target file} {
    expect {$::validated} {the design was not validated}
    set directory [file join [generated] hw_handoff]
    file mkdir $directory
    set channel [open [file join $directory $::design.hwh] w]
    puts $channel "the hardware hand-off of the built design"
    close $channel
}

stub make_wrapper {args} {
    lassign [options $args -files -top] found rest
    set path [file join [generated] hdl ${::design}_wrapper.v]
    file mkdir [file dirname $path]
    close [open $path w]
    return $path
}

stub launch_runs {args} {
    lassign [options $args -jobs] found run
    expect {$run in {synth_1 impl_1}} {there is no run $run}
    expect {$::property([list fileset $::project],top) eq "${::design}_wrapper"} {no top module}
    expect {$run eq "synth_1" || [info exists ::done(synth_1)]} {not synthesized}
    fact run $run [dict get $found -jobs]
}

stub wait_on_run {run} {
    set stuck [expr {[setting VIVADO_STUCK ""] eq $run}]
    if {!$stuck} {
        set ::done($run) 1
    }
    set run [list run $run]
    set ::property($run,PROGRESS) [expr {$stuck ? "45%" : "100%"}]
    set ::property($run,STATUS) [expr {$stuck ? "synth_design ERROR" : "Complete!"}]
    set ::property($run,DIRECTORY) runs
    set ::property($run,STATS.WNS) [setting VIVADO_WNS 0.312]
    set ::property($run,STATS.WHS) [setting VIVADO_WHS 0.021]
}

stub get_runs {run} {
    return [list run $run]
}

stub open_run {run} {
    expect {[info exists ::done($run)]} {$run is not done}
    set ::opened $run
}

stub report_timing_summary {args} {
    lassign [options $args -file] found rest
    close [open [dict get $found -file] w]
}

stub report_utilization {args} {
    lassign [options $args -file] found rest
    close [open [dict get $found -file] w]
}

stub write_bitstream {args} {
    lassign [options $args {} -force] found path
    expect {$::opened eq "impl_1"} {no implemented design is open}
    set channel [open [lindex $path 0] w]
    puts $channel "a bitstream"
    close $channel
}

# -- the script ---------------------------------------------------------------------------------

set argv [lassign $argv script]
incr argc -1
if {[catch {source $script} message]} {
    puts stderr $errorInfo
    exit 1
}

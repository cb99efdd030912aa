# A kernel as IP, with its registers. Interfaces are found by the attributes in its Verilog.

proc package_kernel {overlay name kernel folder} {
    set work [file join $folder package_$name]
    create_project -force package_$name $work -part [dict get $overlay part]
    add_files -norecurse [list [file join $folder $name.v] [file join $folder ${name}_ip.v]]
    set_property top ${name}_ip [current_fileset]
    update_compile_order -fileset sources_1

    lassign [split [dict get $kernel vlnv] :] vendor library ip version
    ipx::package_project -root_dir [file join $folder ip $name] -vendor $vendor \
        -library $library -taxonomy /UserIP -import_files -force
    set core [ipx::current_core]
    set_property name $ip $core
    set_property version $version $core
    set_property display_name $name $core
    set_property description [dict get $kernel summary] $core
    set_property supported_families {zynq Production} $core
    describe_registers $overlay $kernel $core

    ipx::create_xgui_files $core
    ipx::update_checksums $core
    ipx::check_integrity $core
    ipx::save_core $core
    close_project
}

# Replaces the nameless block that the packager makes for a slave interface.
proc describe_registers {overlay kernel core} {
    set interface [dict get $overlay control]
    foreach map [ipx::get_memory_maps -quiet * -of_objects $core] {
        ipx::remove_memory_map [get_property name $map] $core
    }
    set map [ipx::add_memory_map $interface $core]
    set_property slave_memory_map_ref $interface \
        [ipx::get_bus_interfaces $interface -of_objects $core]
    set block [ipx::add_address_block [dict get $overlay block] $map]
    set_property base_address 0 $block
    set_property range [dict get $overlay window] $block
    set_property width 32 $block
    set_property usage register $block
    foreach register [dict get $kernel registers] {
        set entry [ipx::add_register [dict get $register name] $block]
        set_property address_offset [dict get $register offset] $entry
        set_property size 32 $entry
        set_property access [dict get $register access] $entry
        set_property description [dict get $register description] $entry
        foreach field [dict get $register fields] {
            set bits [ipx::add_field [dict get $field name] $entry]
            set_property bit_offset [dict get $field bit] $bits
            set_property bit_width [dict get $field width] $bits
            set_property access [dict get $field access] $bits
            set_property description [dict get $field description] $bits
        }
    }
}

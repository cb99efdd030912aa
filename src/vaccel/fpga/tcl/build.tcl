# From Verilog to vaccel.bit and vaccel.hwh, with the Vivado that overlay.tcl names. Unrun: no
# bitstream has been built with it so far, it has only run against stand-ins for Vivado's commands.
#
#     vivado -mode batch -source build.tcl
#
# Optional: -tclargs JOBS, the number of runs at a time. An error in any step ends the script.

set here [file dirname [file normalize [info script]]]
foreach script {overlay.tcl package.tcl design.tcl implement.tcl} {
    source [file join $here $script]
}

set tested [dict get $overlay vivado]
if {[string first $tested [version -short]] != 0} {
    puts "WARNING: written for Vivado $tested, this is [version -short]: IP versions may differ"
}

set jobs [expr {$argc > 0 ? [lindex $argv 0] : 2}]
set output [file join $here output]
file mkdir $output
# What an earlier build left must not pass for the result of one that fails.
file delete -force [file join $here ip]
foreach suffix {bit hwh} {
    file delete [file join $output [dict get $overlay name].$suffix]
}

dict for {name kernel} $kernels {
    package_kernel $overlay $name $kernel $here
}
create_project -force [dict get $overlay name] [file join $here project] \
    -part [dict get $overlay part]
set_property ip_repo_paths [file join $here ip] [current_project]
update_ip_catalog -rebuild
create_design $overlay $kernels
add_wrapper [dict get $overlay name]
implement $jobs $output
write_outputs [dict get $overlay name] $output
puts "wrote [dict get $overlay name].bit and [dict get $overlay name].hwh to $output"

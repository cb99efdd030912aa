# Synthesis, implementation, timing, and the two files that a board needs.

proc add_wrapper {name} {
    set design [get_files $name.bd]
    generate_target all $design
    set wrapper [make_wrapper -files $design -top]
    add_files -norecurse $wrapper
    set_property top ${name}_wrapper [current_fileset]
    update_compile_order -fileset sources_1
}

proc implement {jobs output} {
    run_to_end synth_1 $jobs
    run_to_end impl_1 $jobs
    open_run impl_1
    report_timing_summary -file [file join $output timing.txt]
    report_utilization -file [file join $output utilization.txt]
    check_timing [get_runs impl_1] [file join $output timing.txt]
}

# wait_on_run does not fail where the run does.
proc run_to_end {name jobs} {
    launch_runs $name -jobs $jobs
    wait_on_run $name
    set run [get_runs $name]
    if {[get_property PROGRESS $run] ne "100%"} {
        error "$name failed: [get_property STATUS $run]; see\
            [file join [get_property DIRECTORY $run] runme.log]"
    }
}

proc check_timing {run report} {
    foreach {statistic what} {STATS.WNS setup STATS.WHS hold} {
        set slack [get_property $statistic $run]
        if {![string is double -strict $slack]} {
            error "no $what slack was reported (found '$slack'); see $report"
        }
        if {$slack < 0} {
            error "timing is not met: the worst $what slack is $slack ns; see $report"
        }
    }
}

# The .hwh is Vivado's own, which describes what was built.
proc write_outputs {name output} {
    set project [get_property DIRECTORY [current_project]]
    set pattern [file join $project $name.* sources_1 bd $name hw_handoff $name.hwh]
    set found [glob -nocomplain $pattern]
    if {[llength $found] != 1} {
        error "expected one hardware hand-off file at $pattern, found [llength $found]: $found"
    }
    file copy -force [lindex $found 0] [file join $output $name.hwh]
    write_bitstream -force [file join $output $name.bit]
}

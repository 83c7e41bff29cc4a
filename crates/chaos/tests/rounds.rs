//! A few rounds of the real thing: `make chaos` runs hundreds.

use std::process::Command;

#[track_caller]
fn assert_kept(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_weft-chaos")).args(arguments).output().expect("the program starts");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("every promise kept"), "{said}");
}

/// Seeds whose faults are of different kinds: workers, the server and its database are killed, and stopped for a while.
#[test]
fn one_server_keeps_its_promises_while_its_parts_are_killed() {
    assert_kept(&["--rounds", "6", "--seed", "1"]);
}

#[test]
fn two_servers_keep_their_promises_while_their_parts_are_killed() {
    assert_kept(&["--rounds", "3", "--seed", "1", "--site", "pair"]);
}

//! The same definitions built by both.

use super::behaviour::check_behaviour;
use super::definitions::DEFINITIONS;
use super::scratch::scratch;
use super::trees::{INTENDED, check_meaning, check_objects, contents, differences, intended};
use std::collections::BTreeSet;

#[test]
fn images_are_apptainers_but_for_what_is_intended() {
    let Some(scratch) = scratch() else { return };
    scratch.make_host_files();
    scratch.make_base();
    scratch.push_layers();
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for (name, text) in DEFINITIONS {
        let (ours, theirs) = scratch.build(name, text);
        let (our_contents, their_contents) = (contents(&ours), contents(&theirs));
        for (path, what, our, their) in differences(&our_contents, &their_contents) {
            let row = intended(&path, what);
            let reason = row.map_or("NOT INTENDED", |row| INTENDED[row].2);
            println!("{name}: /{path}: {what}: ours {our}, theirs {their}: {reason}");
            match row {
                Some(row) => drop(used.insert(row)),
                None => faults.push(format!("{name}: /{path}: {what}: ours {our}, theirs {their}")),
            }
        }
        check_meaning(name, &our_contents, &their_contents, &mut faults);
        check_objects(name, &our_contents, &their_contents, &mut faults);
        check_behaviour(&scratch, name, &ours, &theirs, &mut faults);
    }
    let unused = INTENDED.iter().enumerate().filter(|(row, _)| !used.contains(row));
    faults.extend(unused.map(|(_, row)| format!("no difference needs this row any more: {row:?}")));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n\n"));
}

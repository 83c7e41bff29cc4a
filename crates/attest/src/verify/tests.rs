//! What somebody could do to an export, and what is said about it.

use proptest::prelude::*;
use serde_json::{json, value::RawValue};

use super::*;
use crate::SigningKey;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32]).expect("a key")
}

fn text(seq: u64) -> String {
    json!({ "chain": "acme", "seq": seq, "action": format!("did {seq}") }).to_string()
}

fn line(line: &Line) -> String {
    line.write().expect("JSON").trim_end().to_owned()
}

fn entry(entry: &str, hash: Link) -> String {
    line(&Line::Entry(Entry { hash, entry: RawValue::from_string(entry.to_owned()).expect("JSON") }))
}

/// An export of `count` events with a checkpoint after the one at `checkpoint`.
fn export(count: u64, checkpoint: u64) -> Vec<String> {
    let key = key();
    let (start, iss, chain) = (Link::start("acme"), "https://weft.example.com".to_owned(), "acme".to_owned());
    let keys: KeySet = [key.public().clone()].into_iter().collect();
    let header = Header { format: FORMAT.to_owned(), chain: chain.clone(), from: 1, previous: start, keys };
    let mut lines = vec![line(&Line::Header(header))];
    let mut hash = start;
    for seq in 1..=count {
        hash = hash.then(&text(seq));
        lines.push(entry(&text(seq), hash));
        if seq == checkpoint {
            let claims = Checkpoint { iss: iss.clone(), chain: chain.clone(), seq, hash, iat: 0 };
            lines.push(line(&Line::Checkpoint(Signed { signature: key.sign(CHECKPOINT, &claims) })));
        }
    }
    let end = End { iss, chain, from: 1, previous: start, to: count, hash, iat: 0 };
    lines.push(line(&Line::End(Signed { signature: key.sign(END, &end) })));
    lines
}

fn check(lines: &[String], trust: &Trust) -> Report {
    verify(lines.iter().map(|line| Ok(line.clone())), trust).expect("readable")
}

fn findings(lines: &[String]) -> Vec<Finding> {
    check(lines, &Trust::default()).findings
}

#[test]
fn an_untouched_export_is_in_order() {
    let report = check(&export(5, 3), &Trust::default());
    assert_eq!((report.findings, report.events, report.checkpoints), (vec![], 5, 1));
    assert_eq!(report.head.map(|head| head.seq), Some(5));
    assert_eq!(report.signed_by.into_iter().collect::<Vec<_>>(), [key().public().id()]);
    assert_eq!(findings(&export(0, 9)), []);
}

#[test]
fn an_entry_travels_as_the_text_that_it_is() {
    // Spaces, the order of members and how characters are written are part of what was hashed.
    let odd = r#"{ "seq":1, "chain" : "acme", "b":1.0, "a":"\u00e9" }"#;
    let hash = Link::start("acme").then(odd);
    let Ok(Line::Entry(read)) = Line::read(&entry(odd, hash)) else { panic!("an entry") };
    assert_eq!((read.entry.get(), read.hash), (odd, hash));
}

#[test]
fn a_changed_event_is_named() {
    let mut lines = export(5, 9);
    lines[2] = lines[2].replace("did 2", "did it");
    assert_eq!(findings(&lines), [Finding::Changed(2)]);
}

#[test]
fn removed_events_are_named() {
    let mut lines = export(9, 0);
    lines.drain(3..5);
    lines.remove(5);
    assert_eq!(findings(&lines), [Finding::Missing { from: 3, to: 4 }, Finding::Missing { from: 7, to: 7 }]);
}

#[test]
fn swapped_and_repeated_events_are_named() {
    let mut lines = export(5, 0);
    lines.swap(2, 3);
    assert_eq!(findings(&lines), [Finding::Moved { seq: 2, after: 3 }]);
    let mut lines = export(5, 0);
    lines.insert(4, lines[2].clone());
    assert!(findings(&lines).contains(&Finding::Repeated(2)));
}

#[test]
fn an_end_that_is_cut_off_is_named_with_and_without_its_signature() {
    let mut lines = export(6, 4);
    let end = lines.pop().expect("an end");
    lines.truncate(lines.len() - 2);
    assert_eq!(findings(&lines), [Finding::NoEnd { last: 4 }], "even right after a checkpoint");
    lines.push(end);
    assert_eq!(findings(&lines), [Finding::CutOff { last: 4, to: 6 }]);
}

#[test]
fn an_end_that_is_cut_off_behind_a_checkpoint_is_named_although_what_is_left_was_signed_anew() {
    let (longer, mut lines) = (export(6, 5), export(4, 9));
    let (checkpoint, end) = (longer[6].clone(), lines.pop().expect("an end"));
    lines.extend([checkpoint, end]);
    assert_eq!(findings(&lines), [Finding::CutOff { last: 4, to: 5 }]);
}

#[test]
fn events_behind_the_signed_end_are_named() {
    let (longer, mut lines) = (export(6, 9), export(4, 9));
    let end = lines.pop().expect("an end");
    lines.extend([longer[5].clone(), longer[6].clone(), end]);
    assert_eq!(findings(&lines), [Finding::Added { from: 5, to: 6 }]);
}

#[test]
fn a_checkpoint_in_the_wrong_place_vouches_for_nothing() {
    let mut lines = export(5, 2);
    lines.swap(3, 5);
    assert_eq!(findings(&lines).first(), Some(&Finding::CheckpointMoved(2)));
}

#[test]
fn the_first_place_comes_first_whatever_was_noticed_first() {
    let mut lines = export(8, 0);
    lines[7] = lines[7].replace("did 7", "did it");
    lines.remove(3);
    assert_eq!(findings(&lines), [Finding::Missing { from: 3, to: 3 }, Finding::Changed(7)]);
}

#[test]
fn a_chain_that_was_computed_anew_contradicts_what_was_signed() {
    let mut lines = export(5, 4);
    let mut hash = Link::start("acme").then(&text(1));
    for seq in 2..=5 {
        let changed = text(seq).replace("did 2", "did it");
        hash = hash.then(&changed);
        let index = usize::try_from(seq).expect("small") + usize::from(seq == 5);
        lines[index] = entry(&changed, hash);
    }
    assert_eq!(findings(&lines), [Finding::Rewritten(4), Finding::EndDiffers]);
}

#[test]
fn signatures_of_other_keys_and_for_other_purposes_do_not_count() {
    let lines = export(3, 2);
    let mut other = export(3, 9);
    let stranger: KeySet = [SigningKey::generate().public().clone()].into_iter().collect();
    let trust = Trust { keys: Some(stranger), earlier: None };
    let report = check(&lines, &trust);
    assert_eq!(report.findings, [Finding::BadSignature(4), Finding::BadSignature(6), Finding::NoEnd { last: 3 }]);
    let end = other.pop().expect("an end");
    other.push(end.replace("\"line\":\"end\"", "\"line\":\"checkpoint\""));
    assert!(findings(&other).contains(&Finding::BadSignature(5)), "an end is no checkpoint");
}

#[test]
fn an_export_has_to_go_on_where_an_earlier_one_ended() {
    let earlier = check(&export(3, 0), &Trust::default()).head;
    let trust = Trust { keys: None, earlier: earlier.clone() };
    assert_eq!(check(&export(5, 0), &trust).findings, []);
    assert_eq!(check(&export(3, 0), &trust).findings, []);
    // A server whose table was cut off signs what is left, and cannot know better.
    assert_eq!(check(&export(2, 0), &trust).findings, [Finding::PastNotCovered { seq: 3 }]);
    let mut known = earlier.expect("in order");
    known.hash = Link::start("other");
    let trust = Trust { keys: None, earlier: Some(known.clone()) };
    assert_eq!(check(&export(5, 0), &trust).findings, [Finding::AnotherPast { seq: 3 }]);
    known.chain = "other".to_owned();
    let trust = Trust { keys: None, earlier: Some(known) };
    assert!(check(&export(5, 0), &trust).findings.contains(&Finding::PastOfAnotherLog("other".to_owned())));
}

#[test]
fn what_is_no_export_is_said_to_be_none() {
    for lines in [vec![], vec!["rubbish".to_owned()], vec!["{}".to_owned()], export(2, 0).split_off(1)] {
        assert!(!findings(&lines).is_empty(), "{lines:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever single character of an event is changed, the export is not in order any more.
    #[test]
    fn no_change_goes_unnoticed(index in 1_usize..6, position in 0_usize..1000, replacement in "[a-z0-9\"{}:, ]") {
        let mut lines = export(5, 3);
        let position = position % lines[index].len();
        let mut changed = lines[index].clone();
        changed.replace_range(position..=position, &replacement);
        let same = changed == lines[index];
        lines[index] = changed;
        prop_assert!(same || !findings(&lines).is_empty(), "{}", lines[index]);
    }

    #[test]
    fn no_rearrangement_goes_unnoticed(from in 1_usize..8, to in 1_usize..8) {
        let mut lines = export(7, 0);
        let moved = lines.remove(from);
        lines.insert(to, moved);
        prop_assert_eq!(findings(&lines).is_empty(), from == to);
    }
}

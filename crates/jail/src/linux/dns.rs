//! Just enough of the DNS to answer a program's resolver: one question in, at most one IPv4 address out. Pure.
//!
//! Records other than addresses are answered with "none", so that resolvers that ask for IPv6 as well do not wait.

use std::net::Ipv4Addr;

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_INTERNET: u16 = 1;
const LONGEST_NAME: usize = 253;

/// A question about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query<'a> {
    message: &'a [u8],
    /// Where the question ends.
    end: usize,
    /// Lower case, without the last dot.
    pub(super) name: String,
    kind: u16,
}

/// What is said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Address(Ipv4Addr),
    /// The name exists, but has no record of that kind.
    Nothing,
    NoSuchName,
}

impl<'a> Query<'a> {
    /// Reads a query with exactly one question. `None` for anything else: rubbish gets no answer.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let flags = *message.get(2)?;
        let is_plain_query = flags & 0b1111_1000 == 0;
        if !is_plain_query || number(message, 4)? != 1 {
            return None;
        }
        let (name, end) = name(message)?;
        let (kind, class) = (number(message, end)?, number(message, end + 2)?);
        (class == CLASS_INTERNET).then_some(Self { message, end: end + 4, name, kind })
    }

    pub(super) fn asks_for_address(&self) -> bool {
        self.kind == TYPE_A
    }

    /// The message that answers the query.
    pub(super) fn answer(&self, reply: Reply) -> Vec<u8> {
        let question = self.message.get(HEADER..self.end).unwrap_or_default();
        let mut message = Vec::with_capacity(self.end + 16);
        message.extend_from_slice(self.message.get(..2).unwrap_or_default());
        // An answer; recursion was desired and is available. Then the code, and the counts of the four sections.
        message.extend_from_slice(&[0x81, if reply == Reply::NoSuchName { 0x83 } else { 0x80 }]);
        message.extend_from_slice(&[0, 1, 0, u8::from(matches!(reply, Reply::Address(_))), 0, 0, 0, 0]);
        message.extend_from_slice(question);
        if let Reply::Address(address) = reply {
            // The name is the one at byte 12; type A, class IN, a lifetime of a second, four bytes.
            message.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            message.extend_from_slice(&address.octets());
        }
        message
    }
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// The name of the question, and where it ends.
fn name(message: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return (!name.is_empty()).then_some((name, at));
        }
        let label = message.get(at..at + length)?;
        at += length;
        if length > 63 || !label.iter().all(|&letter| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_')) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|letter| char::from(letter.to_ascii_lowercase())));
        if name.len() > LONGEST_NAME {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(&[0, 0, kind, 0, 1]);
        message
    }

    #[test]
    fn a_question_for_an_address_is_answered_with_it() {
        let message = query("API.test", 1);
        let query = Query::read(&message).unwrap();
        assert_eq!(query.name, "api.test");
        assert!(query.asks_for_address());
        let answer = query.answer(Reply::Address(Ipv4Addr::new(198, 18, 0, 7)));
        assert_eq!(answer[..8], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(answer[12..12 + 14], message[12..]);
        assert!(answer.ends_with(&[0, 4, 198, 18, 0, 7]));
    }

    #[test]
    fn a_question_for_something_else_is_answered_with_nothing() {
        let message = query("api.test", 28);
        let query = Query::read(&message).unwrap();
        assert!(!query.asks_for_address());
        assert_eq!(query.answer(Reply::Nothing)[2..8], [0x81, 0x80, 0, 1, 0, 0]);
        assert_eq!(query.answer(Reply::NoSuchName)[3], 0x83);
    }

    #[test]
    fn rubbish_gets_no_answer() {
        let mut compressed = query("a.test", 1);
        compressed[12] = 0xc0;
        let mut two_questions = query("a.test", 1);
        two_questions[5] = 2;
        let mut response = query("a.test", 1);
        response[2] = 0x81;
        for message in [vec![], vec![0; 12], compressed, two_questions, response, query("a b.test", 1)] {
            assert_eq!(Query::read(&message), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            if let Some(query) = Query::read(&bytes) {
                query.answer(Reply::Nothing);
            }
        }
    }
}

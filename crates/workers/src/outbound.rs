//! Decides about the outbound connections of one process and tells who caused them: the call, when just one was in flight, and
//! the process in any case. Called by the jail for every connection, so nothing here waits.

use crate::{Confinement, Platform, WorkerSpec, in_flight::InFlight, logs::Journal, vitals::Vitals};
use std::sync::Arc;
use weft_jail::{Egress, Refusal};

pub(crate) struct Outbound<P: Platform> {
    app: Arc<str>,
    platform: Arc<P>,
    journal: Arc<Journal<P>>,
    calls: Arc<InFlight<P::Context>>,
    vitals: Arc<Vitals>,
    rules: Rules,
}

/// Whom a process may contact.
struct Rules {
    spec: Arc<WorkerSpec>,
    confinement: Confinement,
}

impl Rules {
    /// Whether it is where files are uploaded to.
    fn is_own(&self, host: &str, port: u16) -> bool {
        let own = self.confinement.own;
        port == own.port() && host.parse() == Ok(own.ip())
    }

    /// What the operator opened is open to every app, and what nobody may contact stays closed even so.
    fn allow(&self, host: &str, port: Option<u16>) -> bool {
        let closed = port.is_some_and(|port| self.confinement.closed.iter().any(|closed| closed.covers(host, port)));
        let listed = || self.spec.egress.as_ref().is_none_or(|allows| allows(host, port));
        !closed && (listed() || self.confinement.guard.opens(host))
    }
}

impl<P: Platform> Outbound<P> {
    pub(crate) fn new(
        (app, platform, journal): (Arc<str>, Arc<P>, Arc<Journal<P>>),
        (calls, vitals): (Arc<InFlight<P::Context>>, Arc<Vitals>),
        (spec, confinement): (Arc<WorkerSpec>, Confinement),
    ) -> Self {
        Self { app, platform, journal, calls, vitals, rules: Rules { spec, confinement } }
    }

    pub(crate) fn confinement(&self) -> &Confinement {
        &self.rules.confinement
    }
}

impl<P: Platform> Egress for Outbound<P> {
    fn allows(&self, host: &str, port: u16) -> bool {
        self.rules.is_own(host, port) || self.rules.allow(host, Some(port))
    }

    fn opens(&self, host: &str, port: u16) -> bool {
        self.rules.is_own(host, port)
    }

    fn allows_name(&self, host: &str) -> bool {
        self.rules.allow(host, None)
    }

    fn connected(&self, host: &str, port: u16) {
        if self.rules.is_own(host, port) {
            return;
        }
        self.vitals.contacted(host, port);
        if let Some(context) = self.calls.only() {
            self.platform.contacted(&self.app, &context, host, port);
        }
    }

    fn refused(&self, host: &str, port: u16, why: Refusal) {
        let hint = if matches!(why, Refusal::NotAllowed) { "; name it in the manifest's `egress`" } else { "" };
        let message = format!("kept from contacting {host}:{port}: {why}{hint}");
        self.journal.write(crate::Level::Warn, &message, self.calls.only().as_ref());
    }
}

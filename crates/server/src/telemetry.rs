//! Logs, traces and metrics of the process.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{self, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{config::Settings, http::trace};

/// Upper bounds of the buckets of every timing, in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

/// What has to be flushed when the process ends.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends logs to standard error and, when a collector is set, spans to it.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let filter = EnvFilter::try_new(&settings.log_filter).context("the log filter is not valid")?;
        let traces = settings.otlp_endpoint.as_ref().map(exporter).transpose()?;
        let spans = traces.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("weft")));
        let set_up = match spans {
            Some(spans) => tracing_subscriber::registry().with(spans).with(lines(settings).with_filter(filter)).try_init(),
            // A filter for one layer alone costs every span a good deal more than one for all.
            None => tracing_subscriber::registry().with(filter).with(Late(lines(settings))).try_init(),
        };
        set_up.context("logging is set up twice")?;
        Ok(Self { traces })
    }

    /// Sends what is left.
    pub fn stop(self) {
        if let Some(provider) = self.traces
            && let Err(error) = provider.shutdown()
        {
            eprintln!("the last traces could not be sent: {error}");
        }
    }
}

/// The log on standard error.
fn lines<S>(settings: &Settings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    if settings.log_json { lines.json().flatten_event(true).boxed() } else { lines.with_target(false).boxed() }
}

/// Writes lines that tell of which request they are. The span that says so is made for the line, unless there is one: most requests
/// log nothing, and each would pay for it.
struct Late<L>(L);

impl<S, L> Layer<S> for Late<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: layer::Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: layer::Context<'_, S>) {
        self.0.on_record(span, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: layer::Context<'_, S>) {
        let span = context.lookup_current().is_none().then(trace::span).flatten();
        let _entered = span.as_ref().map(tracing::Span::enter);
        self.0.on_event(event, context);
    }
}

fn exporter(endpoint: &url::Url) -> anyhow::Result<SdkTracerProvider> {
    let endpoint = endpoint.join("v1/traces").context("the collector's URL")?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()
        .context("cannot set up the trace exporter")?;
    let resource = Resource::builder().with_service_name("weft").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The process's metrics. Installed once, however many servers a test starts at the same time.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?;
    let handle = builder.install_recorder().context("another metrics recorder is installed")?;
    *installed = Some(handle.clone());
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{body::Body, extract::Request};
    use tracing_subscriber::fmt::{self, MakeWriter};

    use super::*;
    use crate::http::trace::{Origin, TraceId, Visit, serve};

    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    // For the whole process: one that counts for a thread alone makes no spans while it writes a line.
    #[tokio::test]
    async fn a_line_tells_of_which_request_it_is() {
        let lines = fmt::layer().with_ansi(false).with_writer(|| LOG.make_writer());
        tracing_subscriber::registry().with(EnvFilter::new("info")).with(Late(lines)).try_init().expect("the only one");
        let request = Request::post("/x").body(Body::empty()).expect("a request");
        let trace = TraceId::generate();
        serve(Visit::of(&request, Origin { trace, address: None }), async {
            tracing::info!("within one");
            tracing::info!("and again");
        })
        .await;
        tracing::info!("outside of any");
        let text = String::from_utf8(LOG.lock().expect("no panic").clone()).expect("text");
        let line = |said: &str| text.lines().find(|line| line.contains(said)).unwrap_or_default().to_owned();
        for said in ["within one", "and again"] {
            let expected = format!("http.request{{method=POST route=\"unmatched\" trace.id={trace}}}");
            assert!(line(said).contains(&expected), "{text}");
        }
        assert!(line("outside of any").contains("telemetry") && !line("outside of any").contains("http.request"), "{text}");
    }
}

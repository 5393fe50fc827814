//! The text that Prometheus scrapes: what is counted elsewhere is brought to the recorder, then all series are written.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    Meters, Metrics, overrides,
    page::Page,
    stores,
    table::{Metric, Section},
};
use crate::{clock, rules::Rules};

impl Metrics {
    /// Everything, in the exposition format, with the series of the rules in force.
    pub fn render(&self, rules: &Rules, meters: &Meters) -> String {
        let now = clock::now();
        let (recorder, mut page) = (&self.recorder, Page::new());
        stores::show(recorder, &self.stores.lock());
        if let Some(known) = self.overrides.get() {
            page.show(Section::RunTimeOverrides);
            overrides::show(recorder, known, now);
        }
        if let Some(tracer) = self.tracer.get() {
            let counts = tracer.counts();
            recorder.show_count(Metric::TraceSpansSent, &[], counts.sent.load(Relaxed));
            recorder.show_count(Metric::TraceSpansDropped, &[], counts.dropped.load(Relaxed));
        }
        if let Some(bytes) = self.top_bytes.get() {
            recorder.show_level(Metric::TopBytes, &[], bytes() as f64);
        }
        recorder.show_count(Metric::SeriesCapped, &[], self.unmatched.others() + self.reference.others());
        if self.reference.settings.on_page {
            page.show(Section::Envoyproxy);
            self.show_reference(&mut page, rules, meters);
        }
        recorder.put(&mut page);
        meters.put(&mut page, rules, now);
        page.write()
    }
}

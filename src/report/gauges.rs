//! Gauges that are counted anew as a whole: a scrape sees all of one count, never a
//! part of it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeGaugeValue, EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::MetricType,
};

/// One series for each set of labels, in the order in which they were counted.
#[derive(Clone, Debug)]
pub(super) struct Gauges<L, V>(Arc<Mutex<Count<L, V>>>);

/// Who reads one keeps it, while the next takes its place.
type Count<L, V> = Arc<Vec<(L, V)>>;

impl<L, V> Default for Gauges<L, V> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Arc::new(Vec::new()))))
    }
}

impl<L, V> Gauges<L, V> {
    /// These take the place of all that there are. Each set of labels comes once.
    pub(super) fn set(&self, series: impl IntoIterator<Item = (L, V)>) {
        let series: Vec<_> = series.into_iter().collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(series);
    }

    fn get(&self) -> Count<L, V> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<L: EncodeLabelSet, V: EncodeGaugeValue> EncodeMetric for Gauges<L, V> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let series = self.get();
        for (labels, value) in &*series {
            encoder.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.get().is_empty()
    }
}

//! Whether requests are traced, and where spans go: envoyproxy/ratelimit's TRACING_*, and OpenTelemetry's own variables
//! (OTEL_*), which are read only if tracing is on, because platforms set them for every process.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::{
    Environment, Flags, SettingsReader, parse,
    partners::{self, RequiredSetting},
    set,
};
use crate::trace::{Destination, OtlpProtocol, Propagators, Sampler, TraceSettings};

#[cfg(test)]
mod tests;

/// Flags of traces that envoyproxy/ratelimit has too; OpenTelemetry's own settings are in the environment only.
#[derive(Args, Clone, Debug, Default)]
pub struct TracingFlags {
    /// Send a trace of each request, or of a part of them, to an OpenTelemetry collector [default: false]
    #[arg(long, value_name = "BOOL", env = "TRACING_ENABLED", num_args = 0..=1, default_missing_value = "true", help_heading = "Traces")]
    pub tracing_enabled: Option<String>,
    /// Name of this service in traces [default: RateLimit]
    #[arg(long, value_name = "NAME", env = "TRACING_SERVICE_NAME", help_heading = "Traces")]
    pub tracing_service_name: Option<String>,
    /// Namespace of this service in traces
    #[arg(long, value_name = "NAME", env = "TRACING_SERVICE_NAMESPACE", help_heading = "Traces")]
    pub tracing_service_namespace: Option<String>,
    /// Instance id of this replica in traces [default: a random UUID]
    #[arg(long, value_name = "ID", env = "TRACING_SERVICE_INSTANCE_ID", help_heading = "Traces")]
    pub tracing_service_instance_id: Option<String>,
    /// http or grpc [default: http]
    #[arg(long, value_name = "NAME", env = "TRACING_EXPORTER_PROTOCOL", help_heading = "Traces")]
    pub tracing_exporter_protocol: Option<String>,
    /// Share of requests that is sampled, where the caller doesn't say [default: 1]
    #[arg(long, value_name = "RATIO", env = "TRACING_SAMPLING_RATE", help_heading = "Traces")]
    pub tracing_sampling_rate: Option<String>,
}

const PROTOCOLS: &[(&str, OtlpProtocol)] = &[("http", OtlpProtocol::Http), ("grpc", OtlpProtocol::Grpc)];

/// The settings of traces; `None` if nothing is traced. Wrong OTEL_* variables are only reported if tracing is on.
pub(super) fn traces(flags: &Flags, environment: &Environment, read: &mut SettingsReader) -> Option<TraceSettings> {
    let flags = &flags.tracing;
    let mut is_on = read.or("TRACING_ENABLED", &flags.tracing_enabled, false, parse::boolean);
    let switch = RequiredSetting::switch("TRACING_ENABLED", &flags.tracing_enabled, WITHOUT);
    let beside = [
        ("TRACING_SERVICE_NAME", &flags.tracing_service_name),
        ("TRACING_SERVICE_NAMESPACE", &flags.tracing_service_namespace),
        ("TRACING_SERVICE_INSTANCE_ID", &flags.tracing_service_instance_id),
        ("TRACING_EXPORTER_PROTOCOL", &flags.tracing_exporter_protocol),
        ("TRACING_SAMPLING_RATE", &flags.tracing_sampling_rate),
    ];
    read.beside(&switch, &partners::names(&beside));
    let some = |value| Some(value);
    let protocol = read.or("TRACING_EXPORTER_PROTOCOL", &flags.tracing_exporter_protocol, None, |text| {
        parse::word(PROTOCOLS)(text).map(some)
    });
    let ratio = read.or("TRACING_SAMPLING_RATE", &flags.tracing_sampling_rate, None, |text| ratio(text).map(Some));
    let mut otel = Otel { environment, read };
    let mut settings = None;
    if is_on {
        is_on = !otel.or("OTEL_SDK_DISABLED", false, parse::boolean) & otel.or("OTEL_TRACES_EXPORTER", true, exporter);
        let queue_max = otel.or("OTEL_BSP_MAX_QUEUE_SIZE", 2_048, parse::at_least(1)) as usize;
        let batch_max = otel.or("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, parse::at_least(1)) as usize;
        let text_max = otel.or("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", TEXT_BYTES_MAX, parse::at_least(0));
        settings = Some(TraceSettings {
            sampler: otel.sampler(ratio),
            propagators: otel.or("OTEL_PROPAGATORS", ALL, propagators),
            resource: otel.resource(flags),
            destination: otel.destination(protocol),
            queue_max,
            batch_max: batch_max.min(queue_max),
            delay: otel.or("OTEL_BSP_SCHEDULE_DELAY", Duration::from_secs(5), milliseconds),
            text_bytes_max: otel.or("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", text_max, parse::at_least(0)) as usize,
        });
    }
    settings.filter(|_| is_on)
}

const WITHOUT: &str = "nothing is traced; false says that nothing is meant to be";

/// Default of the longest text in a span, in bytes. A request has at most 4 MiB, more as text, and few want to read
/// that.
const TEXT_BYTES_MAX: u64 = 4_096;

const ALL: Propagators = Propagators { w3c: true, b3: true, b3_multi: true };

/// Reads OpenTelemetry's variables.
struct Otel<'a> {
    environment: &'a Environment,
    read: &'a mut SettingsReader,
}

impl Otel<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(str::to_owned)
    }

    fn or<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let text = self.text(name);
        self.read.or(name, &text, default, parse)
    }

    /// The value of the exporter's variable for traces, else of the one for all signals, with its name.
    fn exporter<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let name = self.named(name)?;
        self.or(&name, None, |text| parse(text).map(Some))
    }

    /// The sampler. TRACING_SAMPLING_RATE comes first, as envoyproxy/ratelimit has no other.
    fn sampler(&mut self, ratio_of_flag: Option<f64>) -> Sampler {
        let argument = self.or("OTEL_TRACES_SAMPLER_ARG", 1.0, ratio);
        let sampler = self.or("OTEL_TRACES_SAMPLER", (true, None), |text| match text {
            "always_on" => Ok((false, Some(1.0))),
            "always_off" => Ok((false, Some(0.0))),
            "traceidratio" => Ok((false, None)),
            "parentbased_always_on" => Ok((true, Some(1.0))),
            "parentbased_always_off" => Ok((true, Some(0.0))),
            "parentbased_traceidratio" => Ok((true, None)),
            _ => Err("expected always_on, always_off, traceidratio, or one of these behind parentbased_".into()),
        });
        match ratio_of_flag {
            Some(ratio) => Sampler { respects_parent: true, ratio },
            None => Sampler { respects_parent: sampler.0, ratio: sampler.1.unwrap_or(argument) },
        }
    }

    fn resource(&mut self, flags: &TracingFlags) -> Vec<(String, String)> {
        let mut resource = self.or("OTEL_RESOURCE_ATTRIBUTES", Vec::new(), pairs);
        let own = |text: &Option<String>| set(text).map(str::to_owned);
        let named = own(&flags.tracing_service_name).or_else(|| self.text("OTEL_SERVICE_NAME"));
        let mut put = |key: &str, value: Option<String>, default: Option<String>| {
            let position = resource.iter().position(|(name, _)| name == key);
            match (value, position, default) {
                (Some(value), Some(position), _) => resource[position].1 = value,
                (Some(value), None, _) | (None, None, Some(value)) => resource.push((key.to_owned(), value)),
                (None, _, _) => {}
            }
        };
        put("service.name", named, Some("RateLimit".to_owned()));
        put("service.namespace", own(&flags.tracing_service_namespace), None);
        put("service.instance.id", own(&flags.tracing_service_instance_id), Some(uuid()));
        put("service.version", None, Some(env!("CARGO_PKG_VERSION").to_owned()));
        resource
    }

    fn destination(&mut self, protocol_of_flag: Option<OtlpProtocol>) -> Destination {
        let protocol = self.exporter("PROTOCOL", |text| match text {
            "grpc" => Ok(OtlpProtocol::Grpc),
            "http/protobuf" => Ok(OtlpProtocol::Http),
            _ => Err("expected grpc or http/protobuf".into()),
        });
        let protocol = protocol_of_flag.or(protocol).unwrap_or(OtlpProtocol::Http);
        let wrong = self.read.wrong.len();
        let uri = self.uri(protocol);
        let is_read = self.read.wrong.len() == wrong;
        let path = |text: &str| Ok(PathBuf::from(text));
        let (certificate, key) = (self.exporter("CLIENT_CERTIFICATE", path), self.exporter("CLIENT_KEY", path));
        self.certificates(Some(&uri).filter(|_| is_read));
        let timeout = self.exporter("TIMEOUT", milliseconds).unwrap_or(Duration::from_secs(10));
        Destination {
            protocol,
            uri,
            headers: self.exporter("HEADERS", headers).unwrap_or_default(),
            timeout: timeout.min(self.or("OTEL_BSP_EXPORT_TIMEOUT", Duration::from_secs(30), milliseconds)),
            gzip: self.exporter("COMPRESSION", compression).unwrap_or(false),
            ca: self.exporter("CERTIFICATE", path),
            identity: certificate.zip(key),
        }
    }

    /// Reports a certificate without its key, or one of them without a collector that uses TLS. `None`: the address
    /// couldn't be read.
    fn certificates(&mut self, uri: Option<&Uri>) {
        let [certificate, key, ca] = ["CLIENT_CERTIFICATE", "CLIENT_KEY", "CERTIFICATE"].map(|name| self.named(name));
        match (&certificate, &key) {
            (Some(certificate), None) => {
                self.read.missing("OTEL_EXPORTER_OTLP_CLIENT_KEY", &format!("is needed beside {certificate}"));
            }
            (None, Some(key)) => {
                self.read.missing("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &format!("is needed beside {key}"));
            }
            _ => {}
        }
        let given: Vec<String> = [ca, certificate, key].into_iter().flatten().collect();
        if uri.and_then(Uri::scheme_str) == Some("http") && !given.is_empty() {
            let beside = partners::listed(&given);
            let what =
                format!("https:// is needed beside {beside}: without it the collector is spoken to in the clear");
            self.read.missing("OTEL_EXPORTER_OTLP_ENDPOINT", &what);
        }
    }

    /// Name of the variable that the exporter takes this setting from, if one is set.
    fn named(&self, name: &str) -> Option<String> {
        let both = ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].map(|start| start.to_owned() + name);
        both.into_iter().find(|name| self.text(name).is_some())
    }

    /// The address of the collector: the endpoint for traces as it is, or the one for all signals, to which HTTP adds
    /// its path.
    fn uri(&mut self, protocol: OtlpProtocol) -> Uri {
        let is_clear = self.exporter("INSECURE", parse::boolean).unwrap_or(false);
        let endpoint = |text: &str| endpoint(text, is_clear);
        if let Some(uri) = self.or("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None, |text| endpoint(text).map(Some)) {
            return uri;
        }
        let default = match protocol {
            OtlpProtocol::Grpc => Uri::from_static("http://localhost:4317"),
            OtlpProtocol::Http => Uri::from_static("http://localhost:4318"),
        };
        let base = self.or("OTEL_EXPORTER_OTLP_ENDPOINT", default, endpoint);
        if protocol == OtlpProtocol::Grpc {
            return base;
        }
        let text = format!("{}/v1/traces", base.to_string().trim_end_matches('/'));
        text.parse().unwrap_or(base)
    }
}

/// Whether a variable's value may have a secret in it: headers carry tokens, and a URL may have a password in it,
/// though none is used.
pub(super) fn may_hold_a_secret(variable: &str) -> bool {
    variable.starts_with("OTEL_EXPORTER_OTLP_") && ["_HEADERS", "_ENDPOINT"].iter().any(|end| variable.ends_with(end))
}

/// Reads a URL; without a scheme it means TLS, unless OTEL_EXPORTER_OTLP_INSECURE says otherwise.
fn endpoint(text: &str, is_clear: bool) -> Result<Uri, String> {
    let wrong = || "expected an address such as http://collector:4317".to_string();
    let with_scheme = match text.contains("://") {
        true => text.to_owned(),
        false => format!("{}://{text}", if is_clear { "http" } else { "https" }),
    };
    let uri: Uri = with_scheme.parse().map_err(|_| wrong())?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty()) && !with_scheme.contains('@');
    if is_known && has_host { Ok(uri) } else { Err(wrong()) }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio: &f64| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "expected a number from 0 to 1 such as 0.1".into())
}

/// Reads a duration as OpenTelemetry writes it: a whole number of milliseconds.
fn milliseconds(text: &str) -> Result<Duration, String> {
    let number: Option<u64> = text.parse().ok().filter(|number| *number > 0);
    number.map(Duration::from_millis).ok_or_else(|| "expected milliseconds, at least 1".into())
}

fn compression(text: &str) -> Result<bool, String> {
    parse::word(&[("gzip", true), ("none", false)])(text)
}

fn exporter(text: &str) -> Result<bool, String> {
    parse::word(&[("otlp", true), ("none", false)])(text)
}

fn propagators(text: &str) -> Result<Propagators, String> {
    let mut all = Propagators { w3c: false, b3: false, b3_multi: false };
    for name in text.split(',').map(str::trim) {
        match name {
            "tracecontext" => all.w3c = true,
            "b3" => all.b3 = true,
            "b3multi" => all.b3_multi = true,
            // This service calls no other that could get baggage.
            "baggage" | "none" => {}
            _ => return Err("expected some of tracecontext, b3, b3multi, baggage, or none".into()),
        }
    }
    Ok(all)
}

fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, (name, value)) in pairs(text)?.into_iter().enumerate() {
        // By its number: a text that looks like a name may be the rest of a secret with a comma in it.
        let bad = || format!("expected headers, and number {} can't be one", index + 1);
        let key: HeaderName = name.parse().map_err(|_| bad())?;
        let mut value: HeaderValue = value.parse().map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// Reads `a=1,b=2`, as in W3C Baggage: values may have `%20`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').ok_or("expected key=value,key=value")?;
        let (key, value) = (key.trim(), decoded(value.trim()).ok_or("a `%` needs two hex digits behind it")?);
        if key.is_empty() { Err("expected key=value,key=value".to_owned()) } else { Ok((key.to_owned(), value)) }
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> Option<String> {
    let has_digits = |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(has_digits) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

/// A random UUID: version 4.
fn uuid() -> String {
    let id = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

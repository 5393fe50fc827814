use axum::body::Body;

use super::*;

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a request")
}

fn takes(method: &str, headers: &[(&str, &str)]) -> bool {
    let hosts = AllowedHosts::new(&["Tollgate-Admin.shop.svc.".to_owned()]);
    hosts.refusal(&request(method, "/rules", headers)).is_none()
}

#[test]
fn addresses_localhost_and_names_of_the_setting_are_taken_with_any_port() {
    for host in [
        "127.0.0.1",
        "127.0.0.1:6070",
        "10.1.2.3:80",
        "[::1]:6070",
        "[::1]",
        "localhost",
        "LocalHost:6070",
        "localhost.",
        "tollgate-admin.shop.svc:6070",
        "TOLLGATE-ADMIN.shop.svc",
    ] {
        assert!(takes("GET", &[("host", host)]), "{host}");
    }
    assert!(takes("GET", &[]), "HTTP/1.0 has none");
}

#[test]
fn any_other_host_is_refused() {
    for host in [
        "attacker.example",
        "attacker.example:6070",
        "127.0.0.1.attacker.example",
        "localhost.attacker.example",
        "tollgate-admin.shop.svc.attacker.example",
        "admin.shop.svc",
        "",
        "a b",
        "user@",
    ] {
        assert!(!takes("GET", &[("host", host)]), "{host}");
    }
    assert!(!takes("GET", &[("host", "localhost"), ("host", "attacker.example")]), "two hosts");
    let whole = request("GET", "http://attacker.example/rules", &[("host", "localhost")]);
    assert!(AllowedHosts::default().refusal(&whole).is_some(), "the request's line counts");
}

#[test]
fn only_a_page_of_the_same_origin_may_post() {
    let host = ("host", "localhost:6070");
    assert!(takes("POST", &[host]), "no browser");
    assert!(takes("POST", &[host, ("origin", "http://localhost:6070")]));
    for origin in ["http://attacker.example", "http://localhost", "http://localhost:8080", "null", "", "localhost:6070"]
    {
        assert!(!takes("POST", &[host, ("origin", origin)]), "{origin}");
        assert!(takes("GET", &[host, ("origin", origin)]), "it can't read the answer: {origin}");
    }
    assert!(!takes("DELETE", &[host, ("origin", "http://attacker.example")]));
}

//! Tokens against those that AWS' own library for Python (botocore) makes of the same credentials at the same time.

use aws_credential_types::Credentials;

use super::token::{Signer, presigned};
use super::{AwsIam, AwsService};
use crate::limit::UnixMicros;

/// 2027-01-15 12:00:30 UTC.
const AT: UnixMicros = UnixMicros(1_800_014_430_000_000);

/// The parameters of a token, in an order of their own: AWS compares them whatever their order.
fn parts(token: &str) -> Vec<&str> {
    let (host, query) = token.split_once("/?").expect("a host, then a query");
    let mut parts: Vec<&str> = query.split('&').collect();
    parts.push(host);
    parts.sort_unstable();
    parts
}

fn token(iam: &AwsIam, session: Option<&str>) -> String {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let credentials = Credentials::new("AKIDEXAMPLE", secret, session.map(str::to_owned), None, "test");
    presigned(iam, &Signer { credentials, region: "eu-central-1".to_owned() }, AT).expect("it is signed")
}

#[test]
fn a_token_is_the_one_that_aws_library_makes() {
    let iam = AwsIam { cache_name: "Limits".into(), user: "tollgate".into(), ..AwsIam::default() };
    let made = token(&iam, None);
    let expected = "limits/?Action=connect&User=tollgate&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20270115%2Feu-central-1%2Felasticache%2Faws4_request\
        &X-Amz-Date=20270115T120030Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=fb8418aa89e35a2b9182e919df0294c9138315e820546e477ab368ecf15e3eed";
    assert_eq!(parts(&made), parts(expected), "{made}");

    let serverless = AwsIam { is_serverless: true, ..iam.clone() };
    let made = token(&serverless, Some("FwoGZXIvYXdzEXAMPLE//token+with=signs"));
    let expected = "limits/?Action=connect&User=tollgate&ResourceType=ServerlessCache&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20270115%2Feu-central-1%2Felasticache%2Faws4_request\
        &X-Amz-Date=20270115T120030Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
        &X-Amz-Security-Token=FwoGZXIvYXdzEXAMPLE%2F%2Ftoken%2Bwith%3Dsigns\
        &X-Amz-Signature=b35f6300766295cb6f20d639fcc932174d18154ad9b0581bb03184130eab5b81";
    assert_eq!(parts(&made), parts(expected), "{made}");

    let memory_db = AwsIam { service: AwsService::MemoryDb, ..iam };
    let made = token(&memory_db, None);
    assert!(made.contains("%2Feu-central-1%2Fmemorydb%2Faws4_request"), "{made}");
    assert!(
        made.contains("X-Amz-Signature=7abd24465a59a3079f69b0f5753b837e7d6184d66bb3795e638921c400b5f331"),
        "{made}"
    );
}

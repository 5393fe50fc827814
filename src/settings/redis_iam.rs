//! Tokens of AWS IAM as Redis' password, by the names of envoyproxy/ratelimit's pull request 1224, and how old a
//! connection may become.

use std::time::Duration;

use clap::Args;

use super::{Flags, SettingsReader, parse, partners, redis_url::RedisFlags, set};
use crate::store::redis::{AwsIam, AwsService, IS_AWS_IAM_BUILT_IN};

/// ElastiCache and MemoryDB end a connection 12 h after it was authenticated.
const AWS_MAX_AGE: Duration = Duration::from_secs(11 * 3_600);

#[derive(Args, Clone, Debug, Default)]
pub struct RedisIamFlags {
    /// Authenticate with a token of AWS IAM for each connection (ElastiCache, MemoryDB) [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_AWS_IAM_AUTH", help_heading = "Store")]
    pub redis_aws_iam_auth: Option<String>,
    /// Name of the serverless cache or MemoryDB cluster, or id of the replication group; not the endpoint
    #[arg(long, value_name = "NAME", env = "REDIS_AWS_IAM_CACHE_NAME", help_heading = "Store")]
    pub redis_aws_iam_cache_name: Option<String>,
    /// Id of the user, which is its name too
    #[arg(long, value_name = "ID", env = "REDIS_AWS_IAM_USER_ID", help_heading = "Store")]
    pub redis_aws_iam_user_id: Option<String>,
    /// The cache is a serverless one [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_AWS_IAM_SERVERLESS", help_heading = "Store")]
    pub redis_aws_iam_serverless: Option<String>,
    /// Region of the caches [default: AWS_REGION, or the region that the instance is in]
    #[arg(long, value_name = "REGION", env = "REDIS_AWS_IAM_REGION", help_heading = "Store")]
    pub redis_aws_iam_region: Option<String>,
    /// Service that the tokens are for, elasticache or memorydb [default: elasticache]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_REDIS_AWS_IAM_SERVICE", help_heading = "Store")]
    pub redis_aws_iam_service: Option<String>,
    /// As REDIS_AWS_IAM_AUTH, for the second Redis [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_PERSECOND_AWS_IAM_AUTH", help_heading = "Store")]
    pub redis_persecond_aws_iam_auth: Option<String>,
    /// Its cache's name
    #[arg(long, value_name = "NAME", env = "REDIS_PERSECOND_AWS_IAM_CACHE_NAME", help_heading = "Store")]
    pub redis_persecond_aws_iam_cache_name: Option<String>,
    /// Its user's id
    #[arg(long, value_name = "ID", env = "REDIS_PERSECOND_AWS_IAM_USER_ID", help_heading = "Store")]
    pub redis_persecond_aws_iam_user_id: Option<String>,
    /// Whether its cache is a serverless one [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_PERSECOND_AWS_IAM_SERVERLESS", help_heading = "Store")]
    pub redis_persecond_aws_iam_serverless: Option<String>,
    /// Replace each connection to Redis before it is so old, without a gap; 0 never does [default: 0, with AWS IAM 11h]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_REDIS_MAX_CONNECTION_AGE", help_heading = "Store")]
    pub redis_max_connection_age: Option<String>,
}

/// The flags of one Redis; their variables have one prefix.
pub(super) struct IamVariables<'f> {
    pub(super) prefix: &'static str,
    pub(super) auth: &'f Option<String>,
    pub(super) cache_name: &'f Option<String>,
    pub(super) user_id: &'f Option<String>,
    pub(super) serverless: &'f Option<String>,
}

impl RedisIamFlags {
    pub(super) fn first(&self) -> IamVariables<'_> {
        IamVariables {
            prefix: "REDIS",
            auth: &self.redis_aws_iam_auth,
            cache_name: &self.redis_aws_iam_cache_name,
            user_id: &self.redis_aws_iam_user_id,
            serverless: &self.redis_aws_iam_serverless,
        }
    }

    pub(super) fn per_second(&self) -> IamVariables<'_> {
        IamVariables {
            prefix: "REDIS_PERSECOND",
            auth: &self.redis_persecond_aws_iam_auth,
            cache_name: &self.redis_persecond_aws_iam_cache_name,
            user_id: &self.redis_persecond_aws_iam_user_id,
            serverless: &self.redis_persecond_aws_iam_serverless,
        }
    }
}

impl IamVariables<'_> {
    /// Sets how `redis`, whose other flags were read, authenticates, and how old its connections may become.
    pub(super) fn read(&self, flags: &Flags, read: &mut SettingsReader, redis: &mut RedisFlags) {
        let iam = self.iam(flags, read);
        let age = set(&flags.redis_iam.redis_max_connection_age);
        let given = age.map(|_| {
            let age = &flags.redis_iam.redis_max_connection_age;
            read.or("TOLLGATE_REDIS_MAX_CONNECTION_AGE", age, Duration::ZERO, parse::duration)
        });
        redis.max_connection_age = given.or(iam.as_ref().map(|_| AWS_MAX_AGE)).filter(|age| !age.is_zero());
        if iam.is_some() {
            let other = [("AUTH", redis.auth.is_some()), ("AUTH_FILE", redis.auth_file.is_some())];
            for (name, _) in other.into_iter().filter(|(_, is_set)| *is_set) {
                let (variable, prefix) = (format!("{}_{name}", self.prefix), self.prefix);
                read.missing(
                    &variable,
                    &format!("is one password, and {prefix}_AWS_IAM_AUTH=true another: leave one out"),
                );
            }
        }
        redis.iam = iam;
    }

    fn iam(&self, flags: &Flags, read: &mut SettingsReader) -> Option<AwsIam> {
        let variable = |name: &str| format!("{}_AWS_IAM_{name}", self.prefix);
        const SERVICES: &[(&str, AwsService)] =
            &[("elasticache", AwsService::ElastiCache), ("memorydb", AwsService::MemoryDb)];
        let shared = &flags.redis_iam;
        if !read.or(&variable("AUTH"), self.auth, false, parse::boolean) {
            let mut names = Vec::new();
            names.extend(set(self.cache_name).map(|_| variable("CACHE_NAME")));
            names.extend(set(self.user_id).map(|_| variable("USER_ID")));
            if partners::is_true(self.serverless) {
                names.push(variable("SERVERLESS"));
            }
            if !names.is_empty() {
                match set(self.auth) {
                    Some(off) => read.idle.push(partners::idle(&names, &format!("{} is {off}", variable("AUTH")))),
                    None => read.missing(
                        &variable("AUTH"),
                        &format!("true is needed beside {}: without it no token is made", partners::listed(&names)),
                    ),
                }
            }
            return None;
        }
        if !read.can_make_tokens(IS_AWS_IAM_BUILT_IN, &variable("AUTH")) {
            return None;
        }
        let mut needed = |name: &str, given: &Option<String>| match set(given) {
            Some(text) => text.to_owned(),
            None => {
                read.missing(&variable(name), &format!("is needed where {} is true", variable("AUTH")));
                String::new()
            }
        };
        let (cache_name, user) = (needed("CACHE_NAME", self.cache_name), needed("USER_ID", self.user_id));
        if !cache_name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            let what = "expected the name of the cache or the id of the replication group, of letters, digits and -; the \
                endpoint belongs into REDIS_URL";
            read.refuse(&variable("CACHE_NAME"), &cache_name, what);
        }
        Some(AwsIam {
            service: read.or(
                "TOLLGATE_REDIS_AWS_IAM_SERVICE",
                &shared.redis_aws_iam_service,
                AwsService::default(),
                parse::word(SERVICES),
            ),
            cache_name,
            user,
            region: set(&shared.redis_aws_iam_region).map(str::to_owned),
            is_serverless: read.or(&variable("SERVERLESS"), self.serverless, false, parse::boolean),
        })
    }
}

impl SettingsReader {
    /// Refuses the setting in a build that can't do what it asks for.
    fn can_make_tokens(&mut self, is_built_in: bool, variable: &str) -> bool {
        if !is_built_in {
            self.missing(variable, NOT_BUILT_IN);
        }
        is_built_in
    }
}

const NOT_BUILT_IN: &str = "this Tollgate was built without tokens of AWS IAM: build it with --features aws-iam, or have \
    something write them to a file for REDIS_AUTH_FILE";

#[cfg(test)]
mod tests;

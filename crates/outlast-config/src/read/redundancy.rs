//! What keeps requests at one endpoint, and how endpoints are probed.

use super::Reader;
use crate::plan::{ActiveCheck, Affinity, Endpoint};
use crate::policies::section_of;
use crate::sections;
use crate::view::View;

impl Reader<'_, '_> {
    pub(super) fn affinity(&mut self, view: View<'_>) -> Affinity {
        let part = view.part("balance", &sections::BALANCE);
        let hashes = view.text("balance") == Some("hash") || part.text("kind") == Some("hash");
        if !hashes {
            return Affinity::None;
        }
        let by = part.given_part("by", section_of(&sections::BALANCE, "by"));
        match by.and_then(|by| by.text("header")) {
            None => Affinity::Client,
            Some(name) => {
                let by = by.expect("it has a header");
                self.check_header(by, "header", name);
                Affinity::Header(name.to_ascii_lowercase())
            }
        }
    }

    pub(super) fn check(&mut self, view: View<'_>, endpoints: &[Endpoint]) -> Option<ActiveCheck> {
        view.node_of("check")?;
        let part = view.part("check", &sections::ACTIVE_CHECK);
        let secure = endpoints.iter().any(|endpoint| endpoint.tls);
        match (part.text("http"), part.text("grpc")) {
            (None, None) => Some(ActiveCheck::Connect),
            (Some(path), None) => {
                if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    let message = format!("`{path}` is no path");
                    let mend = "write one such as `/healthz`";
                    self.problem(part.value_place("http"), message, mend);
                }
                Some(ActiveCheck::Http(path.to_owned()))
            }
            (None, Some(service)) => {
                if secure {
                    let mend = "check by `http`, or by a connection";
                    let message = "gRPC checks are made in clear text only";
                    self.problem(part.value_place("grpc"), message, mend);
                }
                Some(ActiveCheck::Grpc(service.to_owned()))
            }
            (Some(_), Some(_)) => {
                let mend = "leave `http` or `grpc` out";
                self.problem(
                    part.value_place("grpc"),
                    "one kind of probe is enough",
                    mend,
                );
                None
            }
        }
    }
}

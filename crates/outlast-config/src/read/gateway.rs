//! How the gateway listens, and what it allows.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use outlast_core::ratio::Ratio;

use super::Reader;
use crate::plan::{Admin, Gateway, Limits, Listener, Secret, ServerTls, Underscores};
use crate::policies::section_of;
use crate::view::View;
use crate::yaml::{Node, Value};
use crate::{request, sections};

impl Reader<'_, '_> {
    pub(super) fn gateway(&mut self, view: View<'_>) -> Gateway {
        Gateway {
            listen: self.listeners(view),
            admin: self.admin(view),
            workers: view
                .count("workers")
                .and_then(|count| NonZeroUsize::new(count as usize)),
            limits: self.limits(view.part("limits", section_of(&sections::GATEWAY, "limits"))),
            drain: view.duration("drain").unwrap_or_default(),
            trusted_proxies: view
                .texts("trusted_proxies")
                .into_iter()
                .filter_map(|(text, _)| request::network(text).ok())
                .collect(),
            access_log: view.share("access_log").unwrap_or(Ratio::ZERO),
        }
    }

    fn listeners(&mut self, view: View<'_>) -> Vec<Listener> {
        let nodes = match view.node_of("listen") {
            None => Vec::new(),
            Some(node) => match &node.value {
                Value::List(items) => items.iter().collect(),
                _ => vec![node],
            },
        };
        if view.node_of("listen").is_none() {
            let address = view.text("listen").and_then(|text| text.parse().ok());
            return address
                .map(|address| Listener { address, tls: None })
                .into_iter()
                .collect();
        }
        if nodes.is_empty() {
            self.problem(
                view.value_place("listen"),
                "nothing to listen on",
                "name an address, such as `127.0.0.1:8080`",
            );
        }
        let mut listeners: Vec<Listener> = Vec::new();
        for node in nodes {
            let Some(listener) = self.listener(node) else {
                continue;
            };
            let taken = listeners
                .iter()
                .any(|other| other.address == listener.address && listener.address.port() != 0);
            if taken {
                let message = format!("{} is listened on twice", listener.address);
                self.problem(node.place, message, "leave one of them out");
            }
            listeners.push(listener);
        }
        listeners
    }

    fn listener(&mut self, node: &Node) -> Option<Listener> {
        if let Value::Scalar(text) = &node.value {
            return Some(Listener {
                address: text.parse().ok()?,
                tls: None,
            });
        }
        let view = View::new(node, section_of(&sections::GATEWAY, "listen"));
        let tls = section_of(section_of(&sections::GATEWAY, "listen"), "tls");
        Some(Listener {
            address: view.text("address")?.parse().ok()?,
            tls: view
                .given_part("tls", tls)
                .and_then(|view| self.server_tls(view)),
        })
    }

    fn server_tls(&mut self, view: View<'_>) -> Option<ServerTls> {
        let client_roots = self.path(view, "client_roots");
        let asked = view.text("client_certificate");
        if asked.is_some() && client_roots.is_none() {
            let mend = "name the roots of client certificates with `client_roots`";
            self.problem(
                view.place_of("client_certificate"),
                "there is nothing to judge certificates by",
                mend,
            );
        }
        Some(ServerTls {
            certificate: self.path(view, "certificate")?,
            key: self.path(view, "key")?,
            client_certificate_required: client_roots.is_some() && asked != Some("optional"),
            client_roots,
        })
    }

    fn admin(&mut self, view: View<'_>) -> Option<Admin> {
        let part = section_of(&sections::GATEWAY, "admin");
        let (address, token): (SocketAddr, Option<Secret>) = match view.given_part("admin", part) {
            None => (
                view.text("admin")
                    .filter(|&text| text != "off")?
                    .parse()
                    .ok()?,
                None,
            ),
            Some(admin) => {
                let secret = admin.given_part("token", section_of(part, "token"));
                (
                    admin.text("address")?.parse().ok()?,
                    secret.and_then(|secret| self.secret(secret)),
                )
            }
        };
        if !address.ip().is_loopback() && token.is_none() {
            let message = format!("{address} can be reached by others");
            let mend = "give it a token: `admin: { address: ..., token: { file: ... } }`, or a loopback address";
            self.problem(view.value_place("admin"), message, mend);
        }
        Some(Admin { address, token })
    }

    fn limits(&mut self, view: View<'_>) -> Limits {
        let header_bytes = view.size("header_bytes").unwrap_or(64 * 1024);
        if !(1024..=1024 * 1024).contains(&header_bytes) {
            self.problem(
                view.value_place("header_bytes"),
                "a head of this size is not served",
                "write a size from `1KiB` to `1MiB`",
            );
        }
        let uri_bytes = view.size("uri_bytes").unwrap_or(8 * 1024);
        if uri_bytes > header_bytes {
            self.problem(
                view.value_place("uri_bytes"),
                "the target is a part of the head",
                "make it at most `header_bytes`",
            );
        }
        for key in [
            "header_timeout",
            "body_timeout",
            "idle_timeout",
            "upgrade_idle_timeout",
        ] {
            if view
                .duration(key)
                .is_some_and(|limit| limit < Duration::from_millis(500))
            {
                self.problem(
                    view.value_place(key),
                    "clients cannot keep to that",
                    "write at least `500ms`; silence is looked for every quarter of a second",
                );
            }
        }
        Limits {
            connections: view.count("connections").unwrap_or_default() as usize,
            streams: view.count("streams").unwrap_or_default(),
            headers: view.count("headers").unwrap_or_default() as usize,
            header_bytes,
            uri_bytes,
            body_bytes: view.size("body_bytes").map(|bytes| bytes as u64),
            header_timeout: view.duration("header_timeout").unwrap_or_default(),
            body_timeout: view.duration("body_timeout").unwrap_or_default(),
            idle_timeout: view.duration("idle_timeout").unwrap_or_default(),
            upgrade_idle_timeout: view.duration("upgrade_idle_timeout").unwrap_or_default(),
            underscores: match view.text("underscores") {
                Some("reject") => Underscores::Reject,
                Some("keep") => Underscores::Keep,
                _ => Underscores::Drop,
            },
        }
    }
}

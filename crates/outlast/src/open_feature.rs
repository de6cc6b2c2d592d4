//! Features as flags of OpenFeature.
//!
//! Applications that ask for flags through the OpenFeature API get the same answer as from
//! [`Features::enabled`]: a flag is the name of a feature, its value whether that is on, its
//! variant `on` or `off`. The reason tells why:
//!
//! | reason | when |
//! |---|---|
//! | `STATIC` | normal operation, in which every feature is on |
//! | `TARGETING_MATCH` | a mode is in force, by its conditions or by hand |
//! | `STALE` | the signals were not looked at for more than 10 s; the value is the last one |
//!
//! An unknown flag, one of another type, and a question before the first look at the signals are
//! errors with the code of the specification, so that the application's default holds. Register it
//! once: `OpenFeature::singleton_mut().await.set_provider(Provider::new(features)).await`.

use std::time::Duration;

use async_trait::async_trait;
use open_feature::provider::{
    FeatureProvider, ProviderMetadata, ProviderStatus, ResolutionDetails,
};
use open_feature::{
    EvaluationContext, EvaluationError, EvaluationErrorCode, EvaluationReason, EvaluationResult,
    FlagMetadata, StructValue,
};
use outlast_core::degrade::Level;

use crate::Features;

/// Answers questions about flags from [`Features`]. The context of a question changes nothing.
#[derive(Debug)]
pub struct Provider {
    features: Features,
    metadata: ProviderMetadata,
}

impl Provider {
    /// A provider of these features. Whoever owns them goes on ticking them.
    pub fn new(features: Features) -> Provider {
        Provider {
            features,
            metadata: ProviderMetadata::new("outlast"),
        }
    }

    fn resolve(&self, key: &str) -> EvaluationResult<ResolutionDetails<bool>> {
        let status = self.status();
        if status == ProviderStatus::NotReady {
            let message = "the signals were never looked at: tick the features";
            return Err(error(EvaluationErrorCode::ProviderNotReady, message));
        }
        let modes = self.features.modes();
        let Some(feature) = modes.feature(key) else {
            let message = format!("there is no feature `{key}`");
            return Err(error(EvaluationErrorCode::FlagNotFound, &message));
        };
        let (on, level) = (modes.enabled(feature), modes.current());
        let reason = match (status, level) {
            (ProviderStatus::STALE, _) => EvaluationReason::Other("STALE".to_owned()),
            (_, Level::NORMAL) => EvaluationReason::Static,
            _ => EvaluationReason::TargetingMatch,
        };
        Ok(ResolutionDetails {
            value: on,
            variant: Some(if on { "on" } else { "off" }.to_owned()),
            reason: Some(reason),
            flag_metadata: Some(FlagMetadata::default().with_value("mode", modes.name(level))),
        })
    }
}

#[async_trait]
impl FeatureProvider for Provider {
    /// Looks at the signals once.
    async fn initialize(&mut self, _context: &EvaluationContext) {
        self.features.tick();
    }

    fn status(&self) -> ProviderStatus {
        match self.features.looked() {
            None => ProviderStatus::NotReady,
            Some(ago) if ago > STALE => ProviderStatus::STALE,
            Some(_) => ProviderStatus::Ready,
        }
    }

    fn metadata(&self) -> &ProviderMetadata {
        &self.metadata
    }

    async fn resolve_bool_value(
        &self,
        key: &str,
        _context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<bool>> {
        self.resolve(key)
    }

    async fn resolve_int_value(
        &self,
        key: &str,
        _context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<i64>> {
        self.mismatch(key)
    }

    async fn resolve_float_value(
        &self,
        key: &str,
        _context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<f64>> {
        self.mismatch(key)
    }

    async fn resolve_string_value(
        &self,
        key: &str,
        _context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<String>> {
        self.mismatch(key)
    }

    async fn resolve_struct_value(
        &self,
        key: &str,
        _context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<StructValue>> {
        self.mismatch(key)
    }
}

impl Provider {
    fn mismatch<T>(&self, key: &str) -> EvaluationResult<ResolutionDetails<T>> {
        self.resolve(key)?;
        let message = format!("`{key}` is on or off: ask for a boolean");
        Err(error(EvaluationErrorCode::TypeMismatch, &message))
    }
}

fn error(code: EvaluationErrorCode, message: &str) -> EvaluationError {
    EvaluationError {
        code,
        message: Some(message.to_owned()),
    }
}

/// Ten times the interval of looking.
const STALE: Duration = Duration::from_secs(10);

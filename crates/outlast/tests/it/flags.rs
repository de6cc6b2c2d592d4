//! Features as flags of OpenFeature, through its own client.

use std::time::Duration;

use open_feature::provider::{FeatureProvider, ProviderStatus};
use open_feature::{Client, EvaluationDetails, EvaluationErrorCode, EvaluationReason, OpenFeature};
use outlast::Features;
use outlast::degrade::{Config, Mode};
use outlast::open_feature::Provider;
use outlast::tier::Tier;

pub(crate) fn features() -> Features {
    let config = Config::default()
        .feature("recommendations", Tier::Optional)
        .mode(Mode::new("lean").disable(Tier::Optional));
    Features::new(config).unwrap()
}

async fn details_of(client: &Client) -> EvaluationDetails<bool> {
    client
        .get_bool_details("recommendations", None, None)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_flag_says_whether_a_feature_is_on_and_why() {
    let features = features();
    let mut api = OpenFeature::default();
    api.set_provider(Provider::new(features.clone())).await;
    let client = api.create_client();
    let details = details_of(&client).await;
    assert_eq!(
        (details.value, details.variant.as_deref()),
        (true, Some("on"))
    );
    assert_eq!(details.reason, Some(EvaluationReason::Static));

    features.force("lean", Duration::from_secs(60)).unwrap();
    let details = details_of(&client).await;
    assert_eq!(
        (details.value, details.variant.as_deref()),
        (false, Some("off"))
    );
    assert_eq!(details.reason, Some(EvaluationReason::TargetingMatch));
    let mode = &details.flag_metadata.values["mode"];
    assert_eq!(*mode, "lean".into());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_flag_is_an_error_so_that_the_default_holds() {
    let mut api = OpenFeature::default();
    api.set_provider(Provider::new(features())).await;
    let client = api.create_client();
    let error = client
        .get_bool_value("unknown", None, None)
        .await
        .unwrap_err();
    assert_eq!(error.code, EvaluationErrorCode::FlagNotFound);
    let error = client
        .get_int_value("recommendations", None, None)
        .await
        .unwrap_err();
    assert_eq!(error.code, EvaluationErrorCode::TypeMismatch);
    let error = client
        .get_string_value("unknown", None, None)
        .await
        .unwrap_err();
    assert_eq!(error.code, EvaluationErrorCode::FlagNotFound);
}

#[tokio::test(start_paused = true)]
async fn its_status_follows_the_looks_at_the_signals() {
    let features = features();
    let provider = Provider::new(features.clone());
    assert_eq!(provider.metadata().name, "outlast");
    assert_eq!(provider.status(), ProviderStatus::NotReady);
    features.tick();
    assert_eq!(provider.status(), ProviderStatus::Ready);
    tokio::time::advance(Duration::from_millis(10_001)).await;
    assert_eq!(provider.status(), ProviderStatus::STALE);
}

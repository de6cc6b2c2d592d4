//! The order of the benchmark as a Restate service: five durable steps that cost nothing.
//!
//! `outlast-bench-restate ADDRESS` serves until it is killed. Each step is a `ctx.run`, whose result the
//! server journals before the handler goes on.

use restate_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// What a step gives: some 40 bytes of JSON.
#[derive(Serialize, Deserialize)]
struct Done {
    id: String,
    state: String,
}

#[derive(Serialize, Deserialize)]
struct Input {
    item: String,
}

struct Order;

#[service]
impl Order {
    #[handler]
    async fn begin(
        &self,
        context: Context<'_>,
        input: Json<Input>,
    ) -> Result<Json<Done>, HandlerError> {
        for step in STEPS {
            let item = &input.0.item;
            let act = || async move {
                Ok(Json::from(Done {
                    id: format!("{step}-of-{item}"),
                    state: "done".to_owned(),
                }))
            };
            context.run(act).name(step).await?;
        }
        Ok(Json::from(Done {
            id: input.0.item,
            state: "completed".to_owned(),
        }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("where shall it listen?")?;
    let endpoint = Endpoint::builder().bind(Order).build();
    HttpServer::new(endpoint)
        .listen_and_serve(address.parse()?)
        .await;
    Ok(())
}

const STEPS: [&str; 5] = ["create", "reserve", "charge", "ship", "notify"];

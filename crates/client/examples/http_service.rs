//! An HTTP service that calls a validator for each request.
//!
//! ```text
//! cargo run                                              # in one terminal: Keyward itself
//! cargo run -p keyward-client --example http_service     # in another
//! curl -i -H "x-api-key: $TOKEN" http://127.0.0.1:8090/
//! ```

use axum::routing::get;
use axum::{Extension, Router};
use keyward_client::{ApiKey, Client, KeywardLayer, Validators};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let validator = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8520".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8090".to_owned());

    let keyward = Client::by_call(&Validators::at([validator]))?;
    let app = Router::new()
        .route("/", get(greet))
        .layer(KeywardLayer::for_project(keyward.clone(), "6666")?)
        // Outside the layer: needs no key.
        .route("/public", get(|| async { "hello, anonymous caller\n" }))
        // Accepts client keys too, which are public. Keys of other projects are refused.
        .nest("/app", app(keyward)?);

    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

fn app(keyward: Client) -> anyhow::Result<Router> {
    let layer = KeywardLayer::for_project(keyward, "6666")?.allow_client_keys();
    Ok(Router::new().route("/", get(greet)).layer(layer))
}

async fn greet(Extension(key): Extension<ApiKey>) -> String {
    format!("hello, {} of project {}\n", key.key(), key.project())
}

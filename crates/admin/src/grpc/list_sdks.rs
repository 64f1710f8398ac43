use std::sync::Arc;

use keyward_domain::Error;
use keyward_proto::admin::{self, ListSdksRequest, ListSdksResponse, sdk};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::sdks::{Sdk, Snippet};

pub(super) async fn handle(app: Arc<App>, request: Request<ListSdksRequest>) -> Result<ListSdksResponse, Error> {
    caller(&request)?;
    Ok(ListSdksResponse { sdks: app.sdks().into_iter().map(to_wire).collect() })
}

fn to_wire(card: Sdk) -> admin::Sdk {
    let state = if card.snippets.is_empty() { sdk::State::ComingSoon } else { sdk::State::Ready };
    let snippet = |Snippet { title, language, text }| admin::Snippet {
        title: String::from(title),
        language: String::from(language),
        text,
    };
    admin::Sdk {
        name: format!("sdks/{}", card.id),
        display_name: card.display_name.to_owned(),
        state: state.into(),
        snippets: card.snippets.into_iter().map(snippet).collect(),
        platform: card.platform.as_str().to_owned(),
    }
}

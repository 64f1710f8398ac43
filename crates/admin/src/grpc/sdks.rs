use std::sync::Arc;

use keyward_domain::Error;
use keyward_proto::admin::sdk_service_server::SdkService;
use keyward_proto::admin::{self, ListSdksRequest, ListSdksResponse, sdk};

use crate::app::App;
use crate::grpc::service::{Incoming, service};
use crate::sdks::{Sdk, Snippet};

service!(
    /// `SdkService`.
    SdkApi: SdkService {
        list_sdks: ListSdksRequest -> ListSdksResponse,
    }
);

async fn list_sdks(app: Arc<App>, _: Incoming<ListSdksRequest>) -> Result<ListSdksResponse, Error> {
    Ok(ListSdksResponse { sdks: app.list_sdks().into_iter().map(to_wire).collect() })
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

//! Pages of lists fit into the answer that a gRPC client accepts by default: 4 MiB.

use std::collections::BTreeSet;

use keyward_proto::admin::{Key, ListEventsRequest, ListKeysRequest, ListMembersRequest, Role};
use keyward_tests::client::{Admin, on_project};
use keyward_tests::keyward::Serve;
use prost::Message;

/// The limit of a page's encoded items, in bytes.
const PAGE: usize = 1 << 20;

/// The largest page that can be requested.
const MOST: i32 = 1_000;

/// Room for the token of the next page, in bytes.
const TOKEN: usize = 64;

/// A key with the largest annotations: 32 values of 256 characters of four bytes, 33 kB in all.
fn annotated() -> Key {
    let value = "𝄞".repeat(256);
    let annotations = (0..32).map(|n| (format!("a{n}"), value.clone())).collect();
    Key { annotations, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_large_items_ends_at_one_mebibyte_and_the_list_is_complete() {
    const KEYS: usize = 150;
    const MEMBERS: usize = 300;
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    for n in 0..KEYS {
        root.create_key_as("6666", &format!("k{n}"), annotated()).await.unwrap();
    }
    let roles: Vec<_> = (0..100).map(|n| on_project(Role::Viewer, &format!("{n:032}"))).collect();
    for n in 0..MEMBERS {
        root.create_member(&format!("m{n}"), &roles).await.unwrap();
    }

    let (mut names, mut pages) = (BTreeSet::new(), 0);
    let mut request = ListKeysRequest { parent: "projects/6666".to_owned(), page_size: MOST, ..Default::default() };
    loop {
        let page = root.keys.clone().list_keys(request.clone()).await.unwrap().into_inner();
        assert!(page.encoded_len() <= PAGE + TOKEN, "{} bytes", page.encoded_len());
        pages += 1;
        names.extend(page.keys.into_iter().map(|key| key.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert!(names.len() == KEYS + 1 && (5..=6).contains(&pages), "{} keys on {pages} pages", names.len());

    let (mut revisions, mut pages) = (BTreeSet::new(), 0);
    let mut request = ListEventsRequest { page_size: MOST, ..Default::default() };
    loop {
        let page = root.audit.clone().list_events(request.clone()).await.unwrap().into_inner();
        assert!(page.encoded_len() <= PAGE + TOKEN, "{} bytes", page.encoded_len());
        pages += 1;
        revisions.extend(page.events.into_iter().map(|event| event.revision));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let head = i64::try_from(revisions.len()).unwrap();
    assert!(head > 350 && revisions.last() == Some(&head) && pages > 5, "{head} entries on {pages} pages");

    let (mut names, mut pages) = (BTreeSet::new(), 0);
    let mut request = ListMembersRequest { page_size: MOST, ..Default::default() };
    loop {
        let page = root.members.clone().list_members(request.clone()).await.unwrap().into_inner();
        assert!(page.encoded_len() <= PAGE + TOKEN, "{} bytes", page.encoded_len());
        pages += 1;
        names.extend(page.members.into_iter().map(|member| member.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert!(names.len() > MEMBERS && pages == 2, "{} members on {pages} pages", names.len());
}

//! The statements of `sql/`, a file each.

macro_rules! statements {
    ($($name:ident $file:literal),* $(,)?) => {
        /// The statements of `sql/`, by file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Sql { $(#[doc = concat!("`sql/", $file, ".sql`")] $name),* }

        impl Sql {
            /// All of them.
            pub const ALL: &'static [Sql] = &[$(Sql::$name),*];

            pub(super) fn template(self) -> &'static str {
                match self {
                    $(Sql::$name => const { without_comment(include_str!(concat!("../../../sql/", $file, ".sql"))) }),*
                }
            }
        }
    };
}

/// A file of `sql/` without its first line, which is a comment for readers. The statements themselves have no
/// comments: a host may have switched comments off (`SQLITE_DBCONFIG_ENABLE_COMMENTS`), and so no name that
/// is filled in can end one.
const fn without_comment(file: &'static str) -> &'static str {
    let bytes = file.as_bytes();
    assert!(bytes[0] == b'-' && bytes[1] == b'-', "a file of sql/ begins with a comment");
    let mut start = 2;
    while bytes[start] != b'\n' {
        start += 1;
    }
    let mut at = start;
    while at + 1 < bytes.len() {
        let is_comment = matches!((bytes[at], bytes[at + 1]), (b'-', b'-') | (b'/', b'*'));
        assert!(!is_comment, "a file of sql/ has no comment but its first line");
        at += 1;
    }
    file.split_at(start + 1).1
}

statements! {
    Create "create", Drop "drop", Rename "rename",
    ConfigRead "config_read", ConfigStrays "config_strays", ConfigWrite "config_write",
    ConfigDelete "config_delete",
    StateRead "state_read", StateStrays "state_strays", StateWrite "state_write",
    StateLock "state_lock",
    CentroidsRead "centroids_read", CentroidsWrite "centroids_write", CentroidsDelete "centroids_delete",
    ListsRead "lists_read", ListsScan "lists_scan", ListsScanDown "lists_scan_down", ListsWrite "lists_write", ListsDelete "lists_delete",
    CodesRead "codes_read", CodesScan "codes_scan", CodesScanDown "codes_scan_down", CodesWrite "codes_write", CodesDelete "codes_delete",
    VectorsRead "vectors_read", VectorsScan "vectors_scan", VectorsScanDown "vectors_scan_down", VectorsWrite "vectors_write",
    VectorsDelete "vectors_delete",
    RowidsRead "rowids_read", RowidsScan "rowids_scan", RowidsMax "rowids_max", RowidsCount "rowids_count",
    RowidsWrite "rowids_write", RowidsWriteKeyed "rowids_write_keyed", RowidsKey "rowids_key", RowidsDelete "rowids_delete", RowidsCreate "rowids_create",
    RowidsFence "rowids_fence",
    MetadataCreate "metadata_create", MetadataDrop "metadata_drop", MetadataRename "metadata_rename",
    MetadataRead "metadata_read", MetadataScan "metadata_scan", MetadataWrite "metadata_write",
    MetadataDelete "metadata_delete", MetadataBytes "metadata_bytes",
    PartitionsCreate "partitions_create", PartitionsDrop "partitions_drop", PartitionsRename "partitions_rename",
    PartitionsFind "partitions_find", PartitionsAdd "partitions_add", PartitionsCount "partitions_count",
    PartitionsScan "partitions_scan", PartitionsMax "partitions_max", PartitionsRows "partitions_rows", PartitionsDelete "partitions_delete",
    PartitionsRemove "partitions_remove",
    AuxiliaryCreate "auxiliary_create", AuxiliaryDrop "auxiliary_drop", AuxiliaryRename "auxiliary_rename",
    AuxiliaryRead "auxiliary_read", AuxiliaryFind "auxiliary_find", AuxiliaryNumbers "auxiliary_numbers", AuxiliaryWrite "auxiliary_write",
    AuxiliaryUpdate "auxiliary_update", AuxiliaryMove "auxiliary_move", AuxiliaryDelete "auxiliary_delete",
    AuxiliaryStrays "auxiliary_strays", AuxiliaryMissing "auxiliary_missing",
    OtherMissing "other_missing", OtherCount "other_count", OtherKeys "other_keys",
    ContentRead "content_read", ContentScan "content_scan",
    BytesRead "bytes_read", SegmentsBytes "segments_bytes",
    Vec0Rows "vec0_rows", Vec0Row "vec0_row", Vec0Chunk "vec0_chunk", Vec0Auxiliary "vec0_auxiliary", Vec0Text "vec0_text", Vec0Drop "vec0_drop",
    EncodingRead "encoding_read", LikeRead "like_read", LikeProbe "like_probe",
}

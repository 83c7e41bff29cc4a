// Made from manifest.json by `weft types`; changes are lost.

interface IntegrationManifest {
  s3: {
    config: {
      /** Of a user with the least rights: s3:ListBucket, s3:GetObject, and where needed s3:PutObject, s3:DeleteObject, s3:ListAllMyBuckets */
      accessKeyId?: string;
      /** Where the bucket's name stands: endpoint/bucket, or bucket.endpoint for stores that insist on it */
      addressing: "path" | "host";
      /** Absent for Amazon; else the store's address without bucket */
      endpoint?: string;
      /** Where the buckets are; auto for Cloudflare R2 */
      region: string;
      secretAccessKey?: string;
      /** Only for temporary keys */
      sessionToken?: string;
    };
    actions: {
      /** List the buckets of the account */
      list_buckets: {
        input: Record<string, never>;
        output: {
          buckets: {
            /** ISO 8601 */
            created: string | null;
            name: string;
          }[];
        };
      };
      /** List the objects of a bucket, in pages */
      list_objects: {
        input: {
          bucket: string;
          /** Show what lies deeper as folders instead of objects */
          group_by_folder?: boolean;
          limit?: number;
          /** Only keys that begin so */
          prefix?: string;
          /** Only keys that come after this one in the order of bytes */
          start_after?: string;
          /** next_token of the page before */
          token?: string;
        };
        output: {
          /** Prefixes, with group_by_folder */
          folders: string[];
          /** token of the next page; null: there is none */
          next_token: string | null;
          objects: {
            etag?: string | null;
            key: string;
            /** ISO 8601 */
            modified: string | null;
            /** Bytes */
            size: number;
            storage_class?: string | null;
          }[];
        };
      };
      /** Get size, type and metadata of an object without its content */
      head_object: {
        input: {
          bucket: string;
          /** Whole name of the object, with its folders and without a slash at the beginning */
          key: string;
        };
        output: {
          content_type?: string | null;
          etag?: string | null;
          /** false: there is no such object or bucket, and the rest is absent */
          exists: boolean;
          metadata?: Record<string, string>;
          /** ISO 8601 */
          modified?: string | null;
          /** Bytes of the whole object */
          size?: number;
        };
      };
      /** Get the content of an object, large ones in parts */
      get_object: {
        input: {
          /** text for UTF-8, base64 for everything */
          as?: "text" | "base64";
          bucket: string;
          /** Whole name of the object, with its folders and without a slash at the beginning */
          key: string;
          /** Most bytes to return */
          max_bytes?: number;
          /** First byte; next_offset of the part before */
          offset?: number;
        };
        output: {
          /** With as base64 */
          base64?: string;
          content_type?: string | null;
          etag?: string | null;
          metadata: Record<string, string>;
          /** ISO 8601 */
          modified?: string | null;
          /** Where the next part begins; null: that was all */
          next_offset: number | null;
          /** Bytes of the whole object */
          size: number;
          /** With as text */
          text?: string;
        };
      };
      /** Write an object, in place of one that may exist */
      put_object: {
        input: {
          /** Or the content as base64, 10 MB at most */
          base64?: string;
          bucket: string;
          cache_control?: string;
          /** Absent: text/plain; charset=utf-8 for text, application/octet-stream for base64 */
          content_type?: string;
          /** Whole name of the object, with its folders and without a slash at the beginning */
          key: string;
          /** Own notes on the object: names of small letters, digits and hyphens; values in ASCII */
          metadata?: Record<string, string>;
          /** The content, as UTF-8 */
          text?: string;
        };
        output: {
          etag: string | null;
          /** Bytes */
          size: number;
          /** In buckets with versioning */
          version_id: string | null;
        };
      };
      /** Copy an object of up to 5 GB within the store, with its type and metadata */
      copy_object: {
        input: {
          from_bucket: string;
          /** Whole name of the object, with its folders and without a slash at the beginning */
          from_key: string;
          to_bucket: string;
          /** Whole name of the object, with its folders and without a slash at the beginning */
          to_key: string;
        };
        output: {
          etag: string | null;
          /** ISO 8601 */
          modified: string | null;
        };
      };
      /** Delete an object */
      delete_object: {
        input: {
          bucket: string;
          /** Whole name of the object, with its folders and without a slash at the beginning */
          key: string;
        };
        output: {
          deleted: boolean;
          /** Of the deletion mark, in buckets with versioning */
          version_id: string | null;
        };
      };
      /** Make a URL with which anybody can download or upload an object for a while */
      presign_url: {
        input: {
          bucket: string;
          expires_seconds?: number;
          /** Name under which a browser saves the download */
          filename?: string;
          /** Whole name of the object, with its folders and without a slash at the beginning */
          key: string;
          /** GET to download, PUT to upload */
          method?: "GET" | "PUT";
        };
        output: {
          /** ISO 8601 */
          expires_at: string;
          method: string;
          url: string;
        };
      };
    };
  };
}

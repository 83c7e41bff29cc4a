/** S3: objects in Amazon's store and in those that speak its language. */

import { listBuckets, listObjects } from "./listing.ts";
import { getObject, headObject } from "./reading.ts";
import { presignUrl } from "./sharing.ts";
import type { Settings } from "./store.ts";
import { copyObject, deleteObject, putObject } from "./writing.ts";

defineIntegration<Settings, Settings>({
  actions: {
    list_buckets: listBuckets,
    list_objects: listObjects,
    head_object: headObject,
    get_object: getObject,
    put_object: putObject,
    copy_object: copyObject,
    delete_object: deleteObject,
    presign_url: presignUrl,
  },
});

/** URLs that carry their permission. Made here, without asking the store: whether the key may do this shows when one is used. */
import { presigned } from "./client.ts";
import { type Access, encoded, storeOf } from "./store.ts";

type PresignUrl = IntegrationManifest["s3"]["actions"]["presign_url"];

/** The action `presign_url`. */
export async function presignUrl(input: PresignUrl["input"], ctx: Access): Promise<PresignUrl["output"]> {
  const { bucket, key, method = "GET", expires_seconds: seconds = 3600, filename } = input;
  if (filename !== undefined && method !== "GET") {
    throw new ActionError("filename is for downloads; leave it out with the method PUT.", {
      code: "invalid_filename",
      category: "Validation",
    });
  }
  const query = {
    "X-Amz-Expires": String(seconds),
    ...(filename && { "response-content-disposition": `attachment; filename*=UTF-8''${encoded(filename)}` }),
  };
  const url = await presigned(storeOf(ctx), { method, bucket, key, query });
  return { url, method, expires_at: new Date(Date.now() + seconds * 1000).toISOString() };
}

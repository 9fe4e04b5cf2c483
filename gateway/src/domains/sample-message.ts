/** One consenting request's text on its way to its domain's reservoir: the message of the samples queue. */
export interface SampleMessage {
  requestId: string
  keyId: string
  model: string
  domain: string
  /** What the client wrote, at most 64 KB of UTF-8; not redacted yet. */
  text: string
}

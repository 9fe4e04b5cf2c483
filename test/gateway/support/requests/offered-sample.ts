import type { OfferedSample } from '../../../../gateway/src/contracts/reservoir-object.ts'

/** Returns an offered text of a conversation of its own, whose side its hash decides. */
export function offeredSample(text: string, changes: Partial<OfferedSample> = {}): OfferedSample {
  const requestId = changes.requestId ?? `request of ${text}`
  return {
    requestId,
    keyId: 'key',
    tenant: 'tenant',
    conversation: `conversation of ${requestId}`,
    consentVersion: 1,
    text,
    atMs: Date.now(),
    ...changes,
  }
}

import { DAY_MS } from '@copal/shared/day.ts'
import { hmac } from '@copal/shared/wire/hmac.ts'
import type { GatewaySecrets, AttestedCall, Attestations, RequestOrigin } from '../../contracts/node-auth.ts'

/** Separates attestations from other HMACs under the gateway's secret. */
const LABEL = 'copal attestation 3'
/** Label of attestations of versions without the origin of the request. */
const ORIGINLESS_LABEL = 'copal attestation 2'

/**
 * Days for which a node can report on a request, from its call on.
 *
 * Receipts must survive an outage of the node or the gateway, so a week. A stored receipt, by which a second one is
 * recognised, is kept for at least as long, so that no receipt counts twice. The usage of a request whose receipt comes
 * later has long been charged by an estimate.
 */
export const ATTESTED_DAYS = 7
/** How long after the longest response a node can send it to the cache. */
const LATE_ANSWER_MS = 600_000

/** Hexadecimal digits of the time of issue, in seconds; those of 64 that follow it and the origin are the beginning of the HMAC. */
const TIME_DIGITS = 8
/** Digits of the conversation, and one that says what is known: 1 the conversation, and 2 more if the weights are named. */
const CONVERSATION_DIGITS = 8
const ORIGIN_DIGITS = CONVERSATION_DIGITS + 1
const ATTESTATION_DIGITS = 64

/**
 * Creates attestations with the first secret, which no node has, and accepts those made with any of the secrets until they
 * expire. They are 64 hexadecimal digits, as nodes of earlier versions expect.
 *
 * @param totalMs the longest time that a response takes
 */
export function createAttestations(
  secrets: GatewaySecrets,
  { totalMs = 0, nowMs = () => Date.now() }: { totalMs?: number; nowMs?: () => number } = {},
): Attestations {
  const issueAt = async (
    secret: string,
    label: string,
    head: string,
    call: AttestedCall,
  ): Promise<string> => {
    const mac = await hmac(secret, `${label}\n${head}\n${contentOf(call)}`)
    return head + mac.slice(0, ATTESTATION_DIGITS - head.length)
  }
  const read: Attestations['read'] = async (attestation, call) => {
    if (attestation?.length !== ATTESTATION_DIGITS) return undefined
    const time = attestation.slice(0, TIME_DIGITS)
    const origin = attestation.slice(TIME_DIGITS, TIME_DIGITS + ORIGIN_DIGITS)
    const ageMs = nowMs() - attestedTime(attestation)
    const lifetimeMs = 'answer' in call.subject ? totalMs + LATE_ANSWER_MS : ATTESTED_DAYS * DAY_MS
    if (!(ageMs <= lifetimeMs)) return undefined
    for (const secret of secrets) {
      if (isEqual(await issueAt(secret, LABEL, time + origin, call), attestation)) return originOf(origin)
      // Of requests that were running when the gateway was upgraded. To be removed with the next version.
      if (isEqual(await issueAt(secret, ORIGINLESS_LABEL, time, call), attestation)) return {}
    }
    return undefined
  }
  return {
    issue(call, origin = {}) {
      const time = Math.floor(nowMs() / 1000)
        .toString(16)
        .padStart(TIME_DIGITS, '0')
      return issueAt(secrets[0], LABEL, time + digitsOf(origin), call)
    },
    read,
    verify: async (attestation, call) => (await read(attestation, call)) !== undefined,
  }
}

function digitsOf({ conversation, namesWeights }: RequestOrigin): string {
  const known = (conversation === undefined ? 0 : 1) + (namesWeights ? 2 : 0)
  return (conversation ?? 0).toString(16).padStart(CONVERSATION_DIGITS, '0') + String(known)
}

function originOf(digits: string): RequestOrigin {
  const known = Number(digits.slice(CONVERSATION_DIGITS))
  const namesWeights = known >= 2
  if (known % 2 === 0) return { namesWeights }
  return { conversation: Number.parseInt(digits.slice(0, CONVERSATION_DIGITS), 16), namesWeights }
}

/** Returns when a verified attestation was issued, Unix milliseconds. */
export function attestedTime(attestation: string): number {
  return Number.parseInt(attestation.slice(0, TIME_DIGITS), 16) * 1000
}

/** Compares two attestations in constant time. */
function isEqual(one: string, other: string): boolean {
  const encoder = new TextEncoder()
  const [a, b] = [encoder.encode(one), encoder.encode(other)]
  return a.byteLength === b.byteLength && crypto.subtle.timingSafeEqual(a, b)
}

function contentOf({ nodeId, subject }: AttestedCall): string {
  return JSON.stringify([nodeId, ...factsOf(subject)])
}

function factsOf(subject: AttestedCall['subject']): (string | number | null)[] {
  if ('request' in subject) {
    const { requestId, account = null, model, domain } = subject.request
    return ['request', requestId, account, model, domain]
  }
  const { tenant, key, ttlMs } = subject.answer
  return ['answer', tenant, key, ttlMs]
}

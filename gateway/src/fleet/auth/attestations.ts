import { hmac, isHmac } from '@copal/shared/wire/hmac.ts'
import type { GatewaySecrets, AttestedCall, Attestations } from '../../contracts/node-auth.ts'

/** Separates attestations from other HMACs under the gateway's secret. Changing it would invalidate those in flight. */
const LABEL = 'copal ticket 1'

/** Creates attestations with the first secret, which no node has, and accepts those made with any of the secrets. */
export function createAttestations(secrets: GatewaySecrets): Attestations {
  return {
    issue: (call) => hmac(secrets[0], contentOf(call)),
    async verify(attestation, call) {
      if (attestation === undefined) return false
      const text = contentOf(call)
      for (const secret of secrets) if (await isHmac(secret, text, attestation)) return true
      return false
    },
  }
}

function contentOf({ nodeId, subject }: AttestedCall): string {
  return `${LABEL}\n${JSON.stringify([nodeId, ...factsOf(subject)])}`
}

function factsOf(subject: AttestedCall['subject']): (string | number | null)[] {
  if ('request' in subject) {
    const { requestId, account = null, model, domain } = subject.request
    return ['request', requestId, account, model, domain]
  }
  const { tenant, key, ttlMs } = subject.answer
  return ['answer', tenant, key, ttlMs]
}

import { hmac, isHmac } from '@copal/shared/wire/hmac.ts'
import type { GatewaySecrets, AttestedFact, Attestations } from '../../contracts/node-auth.ts'

/** Whatever else is made with the gateway's secret begins otherwise. */
const LABEL = 'copal ticket 1'

/** Attestations under a secret that no node has; those of any of them hold. */
export function createAttestations(secrets: GatewaySecrets): Attestations {
  return {
    issue: (given) => hmac(secrets[0], textOf(given)),
    async isFor(attestation, given) {
      if (attestation === undefined) return false
      const text = textOf(given)
      for (const secret of secrets) if (await isHmac(secret, text, attestation)) return true
      return false
    },
  }
}

function textOf({ nodeId, what }: AttestedFact): string {
  return `${LABEL}\n${JSON.stringify([nodeId, ...factsOf(what)])}`
}

function factsOf(what: AttestedFact['what']): (string | number | null)[] {
  if ('request' in what) {
    const { requestId, account = null, model, domain } = what.request
    return ['request', requestId, account, model, domain]
  }
  const { tenant, key, ttlMs } = what.answer
  return ['answer', tenant, key, ttlMs]
}

/** The process of an attacker: it repeats a request on many connections until it is told to stop, and counts statuses. */
import { randomBytes } from 'node:crypto'
import { Client } from 'undici'

/** Message to the attacker: what to repeat. */
export interface Attack {
  origin: string
  method: 'GET' | 'POST'
  path: string
  headers: Record<string, string>
  body?: string
  connections: number
  /** Each request has another made-up API key. */
  randomKeys?: boolean
}
/** Message to the attacker: end. */
export interface EndAttack {
  stop: true
}
/** Messages from the attacker: that it has begun, and at its end how many responses of each status it got. */
export type AttackMessage = { begun: true } | { statuses: Record<string, number> } | { error: string }

const statuses: Record<string, number> = {}
let stopped = false

process.on('message', (message: Attack | EndAttack) => {
  if ('stop' in message) stopped = true
  else void attack(message)
})
process.on('disconnect', () => process.exit())

async function attack(options: Attack): Promise<void> {
  const clients = Array.from(
    { length: options.connections },
    () => new Client(options.origin, { pipelining: 1 }),
  )
  process.send?.({ begun: true } satisfies AttackMessage)
  await Promise.all(clients.map((client) => repeat(client, options)))
  process.send?.({ statuses } satisfies AttackMessage)
  await Promise.all(clients.map((client) => client.destroy()))
}

async function repeat(client: Client, { method, path, headers, body, randomKeys }: Attack): Promise<void> {
  while (!stopped) {
    const authorization = `Bearer sk-copal-${randomBytes(24).toString('base64url')}`
    const sent = randomKeys ? { ...headers, authorization } : headers
    try {
      const response = await client.request({ method, path, headers: sent, body: body ?? null })
      await response.body.dump()
      count(String(response.statusCode))
    } catch {
      count('lost')
    }
  }
}

function count(status: string): void {
  statuses[status] = (statuses[status] ?? 0) + 1
}

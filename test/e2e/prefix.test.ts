/** Routing of prompts with a common prefix: the real gateway, and three nodes that run the sparse engine on the tiny model. */
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import type { Completion } from '@copal/shared/wire/completions.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addon } from '../support/engine/backends.ts'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { skipWithoutAddon } from '../support/harness/skip-without-addon.ts'
import { until } from '../support/processes/service.ts'

const NODES = ['node-a', 'node-b', 'node-c']
/** So many that not all are served by one node by accident. */
const TEXTS = 16

if (addon) testPrompts()
else skipWithoutAddon('the cache of prefixes')

function testPrompts(): void {
  let fleet: TestFleet
  let ours: string
  let theirs: string
  /** The node that served the first prompt with each prefix. */
  const homes = new Map<number, string>()

  beforeAll(async () => {
    fleet = await startFleet({ backend: 'sparse' })
    ours = (await fleet.key({}, 'ours')).key
    theirs = (await fleet.key({}, 'theirs')).key
    await Promise.all(NODES.map((id) => fleet.start(id)))
    await allAlive()
  })
  afterAll(() => fleet?.stop())

  test('a prompt goes to the node that computed its prefix for the same tenant', async () => {
    for (let text = 0; text < TEXTS; text += 1) {
      const first = await complete(ours, text, 'the first end')
      expect(first.cached).toBe(0)
      homes.set(text, first.node)
      const second = await complete(ours, text, 'another end')
      expect(second.node).toBe(first.node)
      expect(second.cached).toBeGreaterThan(500)
      // Receipts of the others that come before its own would make its node seem busier by more than the spillover.
      await fleet.settled()
    }
    expect(new Set(homes.values()).size).toBeGreaterThan(1)
    const strangers = await inTurn((text) => complete(theirs, text, 'another end'))
    expect(strangers.map(({ cached }) => cached)).toEqual(strangers.map(() => 0))
    expect(strangers.every(({ node }, text) => node === homes.get(text))).toBe(false)
  })

  test('a restarted gateway learns the prefixes of nodes from heartbeats', async () => {
    await fleet.killGateway()
    const killedMs = Date.now()
    await fleet.startGateway()
    await until('a heartbeat of each node', async () => {
      const askedMs = Date.now()
      const { nodes } = await fleet.admin<StatusReport>('GET', '/admin/status')
      const heard = nodes.filter(({ seen_ms_ago }) => seen_ms_ago < askedMs - killedMs)
      return heard.length === NODES.length || undefined
    })
    const again = await inTurn((text) => complete(ours, text, 'a third end'))
    expect(again.map(({ node }) => node)).toEqual([...homes.values()])
    expect(Math.min(...again.map(({ cached }) => cached))).toBeGreaterThan(500)
  })

  test('many concurrent requests with one prefix go to other nodes too', async () => {
    // Long enough that the first still runs when the last arrives. The exact distribution is tested on the fleet's state.
    const answers = await Promise.all(
      Array.from({ length: 18 }, (_, index) => complete(ours, 0, `end ${index}`, { max_tokens: 1000 })),
    )
    const per = NODES.map((id) => answers.filter(({ node }) => node === id).length)
    expect(Math.min(...per)).toBeGreaterThan(0)
    expect(Math.max(...per)).toBeLessThanOrEqual(12)
  })

  function allAlive(): Promise<true> {
    return until('all nodes', async () => ((await fleet.alive()).length === NODES.length ? true : undefined))
  }

  async function inTurn<T>(ask: (text: number) => Promise<T>): Promise<T[]> {
    const answers: T[] = []
    for (let text = 0; text < TEXTS; text += 1) {
      answers.push(await ask(text))
      // Until its receipt arrives, which a node may send seconds later after an outage, a request counts as running.
      await fleet.settled()
    }
    return answers
  }

  /** Completes a text of which only the end varies. Returns the node and the number of cached tokens. */
  async function complete(key: string, text: number, end: string, changes: object = {}) {
    const prompt = `${`Text ${text} is like no other of its kind. `.repeat(40)}${end}`
    const response = await fetch(`${fleet.url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'tiny', prompt, max_tokens: 2, temperature: 0, ...changes }),
    })
    if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`)
    const { usage } = (await response.json()) as Completion
    return {
      node: response.headers.get('x-copal-node') ?? '',
      cached: usage?.prompt_tokens_details.cached_tokens ?? Number.NaN,
    }
  }
}

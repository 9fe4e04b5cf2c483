import { expect, test } from 'vitest'
import type { NodeEntry, UpdateEntry } from '@copal/shared/wire/admin.ts'
import { UserError } from '../../../../gpu-node/src/platform/user-error.ts'
import { followUpdate } from '../../../../gpu-node/cli/api/follow-update.ts'

const AWAY = new UserError('gateway_unreachable', 'No gateway answers at http://x.')
const WAITING: UpdateEntry = {
  id: 'upd_1',
  model: 'tiny',
  domains: ['law'],
  method: 'copal',
  pattern: '0.5',
  patterns: {},
  scope: 'row',
  state: 'calibrating',
  progress: 0.1,
  message: 'calibrating: waiting for a node',
  mask_version: null,
  parent_version: null,
  candidate: 1,
  error: null,
  trigger: 'manual',
  trigger_reason: '',
  created_at: '2026-11-26T23:00:00Z',
  job: null,
  finished_at: null,
}
const PROMOTED: UpdateEntry = { ...WAITING, state: 'promoted', finished_at: '2026-11-27T00:00:00Z' }
const NODE = { id: 'node-1', model: 'tiny', alive: true, draining: false, drained_by_operator: false }
const DRAINED = { ...NODE, draining: true, drained_by_operator: true }

/** Follows an update, asked for once a second; what came of it, what was said, and the percentages shown. */
async function follow(answer: (poll: number) => UpdateEntry | UserError, nodes: Partial<NodeEntry>[] = []) {
  let poll = 0
  let asked = 0
  const said: string[] = []
  const shown: number[] = []
  const admin = async <T>(_: string, path: string): Promise<T> => {
    if (path === '/status') {
      asked++
      return { nodes } as T
    }
    const next = answer(poll++)
    if (next instanceof UserError) throw next
    return next as T
  }
  const update = (_: string, fraction: number | null) => void shown.push(Math.round((fraction ?? 0) * 100))
  const bar = { update, end: (line?: string) => void (line && said.push(line)) }
  const signal = new AbortController().signal
  const clock = { pollMs: 0, nowMs: () => poll * 1000 }
  const ended = await followUpdate({ admin }, 'upd_1', bar, signal, clock).catch(
    (error: UserError) => error.message,
  )
  return { ended, said, shown, asked }
}

const idleFor = (polls: number) => (poll: number) => (poll < polls ? WAITING : PROMOTED)

test('the reason why no node starts is printed once, with a command that helps', async () => {
  expect(await follow(idleFor(40), [DRAINED])).toMatchObject({
    ended: PROMOTED,
    said: ['No node can do the work: node-1 is draining (npx copal undrain node-1)'],
  })
  expect((await follow(idleFor(40), [DRAINED, { ...NODE, id: 'node-2', alive: false }])).said).toEqual([
    'No node can do the work: node-1 is draining (npx copal undrain node-1); node-2 is away (npx copal nodes)',
  ])
  expect((await follow(idleFor(40))).said).toEqual(['No node serves tiny. See: npx copal nodes'])
})

test('nothing is printed while a node works or may start at any moment', async () => {
  expect((await follow(idleFor(40), [NODE, DRAINED])).said).toEqual([])
  const working = { ...WAITING, job: { state: 'running', progress: 0.1, message: 'm' } } as UpdateEntry
  expect((await follow((poll) => (poll < 40 ? working : PROMOTED), [DRAINED])).said).toEqual([])
})

test('a gateway that is away is waited for, with a message, and after a while it is an error', async () => {
  expect(await follow((poll) => (poll < 12 ? AWAY : PROMOTED))).toMatchObject({
    ended: PROMOTED,
    said: ['No gateway answers at http://x. Waiting for it …'],
  })
  const { ended } = await follow(() => AWAY)
  expect(ended).toMatch(
    /^No gateway answers at http:\/\/x\. This has lasted for 3 min\. .*: npx copal updates upd_1$/,
  )
})

test('while nothing happens the nodes are asked for less often than the update', async () => {
  expect((await follow(idleFor(30), [DRAINED])).asked).toBe(1)
  expect((await follow(idleFor(60), [DRAINED])).asked).toBe(2)
})

/** An update at so many percent, at work or waiting for a node. */
const at = (percent: number, job?: { node: string; attempt: number }): UpdateEntry => ({
  ...WAITING,
  progress: percent / 100,
  job: job ? { state: 'running', progress: 0, message: 'm', ...job } : null,
})
const along = (updates: UpdateEntry[]) => follow((poll) => updates[poll] ?? { ...PROMOTED, progress: 1 })

test('the percentage goes back when a node starts the work again, which is printed with its name', async () => {
  const lost = [at(30, { node: 'a', attempt: 1 }), at(30), at(5, { node: 'b', attempt: 2 })]
  expect(
    await along([...lost, at(20, { node: 'b', attempt: 2 }), at(5, { node: 'a', attempt: 3 })]),
  ).toMatchObject({
    shown: [30, 30, 5, 20, 5, 100],
    said: [
      'The work was started again on node b (attempt 2).',
      'The work was started again on node a (attempt 3).',
    ],
  })
})

test('a percentage that falls for another reason is not shown', async () => {
  // An older gateway does not tell the attempt.
  const untold = at(40, undefined)
  const job = { state: 'running', progress: 0.1, message: 'm' } as NonNullable<UpdateEntry['job']>
  expect(await along([at(70), { ...untold, job }, at(80)])).toMatchObject({
    shown: [70, 70, 80, 100],
    said: [],
  })
})

test.each([
  ['service_unavailable', 'The database does not answer.'],
  ['internal_error', 'The gateway failed.'],
])('a gateway that answers %s for a moment is waited for', async (code, message) => {
  const passing = new UserError(code, message)
  expect((await follow((poll) => (poll < 2 ? passing : PROMOTED))).ended).toEqual(PROMOTED)
})

test('a gateway that keeps failing is soon an error, because that is a defect and not a restart', async () => {
  const { ended } = await follow(() => new UserError('internal_error', 'The gateway failed.'))
  expect(ended).toMatch(/^The gateway failed\. This has lasted for 20 s\. .*: npx copal updates upd_1$/)
})

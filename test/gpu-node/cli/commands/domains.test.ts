import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { copal } from '../../../support/doubles/copal-command.ts'

test('deleting texts of a key without texts says so, because the id may be mistyped', async () => {
  const args = ['domains', 'delete', 'general', '--key', 'key_1', '--yes']
  const none = { domain: 'general', deleted: 0, deleted_frozen: 0 }
  expect((await copal(none, args)).stdout).toMatch(/^No texts of key_1 were found in general\./)
  expect((await copal({ ...none, deleted: 1, deleted_frozen: 2 }, args)).stdout).toBe(
    'Deleted 1 sampled text and 2 frozen texts of key_1 from general.\n',
  )
})

test('texts of a tenant and of a request are deleted, and the domain stays', async () => {
  const calls: string[] = []
  const gone = (call: string) => {
    calls.push(call)
    return { domain: 'general', deleted: 1, deleted_frozen: 0 }
  }
  const { stdout } = await copal(gone, [
    'domains',
    'delete',
    'general',
    '--tenant',
    'a b',
    '--request',
    'req_1',
    '--yes',
  ])
  expect(stdout).toBe('Deleted 1 sampled text and 0 frozen texts of a b and req_1 from general.\n')
  expect(calls).toEqual(['DELETE /admin/domains/general/samples?tenant=a%20b&request=req_1'])
})

test('a domain whose deletion goes on by itself says so', async () => {
  const left = { domain: 'general', deleted: false }
  const { code, stdout } = await copal(left, ['domains', 'delete', 'general', '--yes'])
  expect([code, stdout]).toEqual([
    0,
    'A part of general is left. The service deletes it within the next minutes, or when an update that reads it has ended.\n',
  ])
})

test('a domain gets a mask of its own, or loses it', async () => {
  const calls: string[] = []
  const update = {
    id: 'upd_1',
    model: 'm',
    domains: ['legal'],
    method: 'wanda',
    pattern: '0.5',
    patterns: {},
    scope: 'row',
    state: 'promoted',
    progress: 1,
    message: '',
    mask_version: 7,
    parent_version: 6,
    candidate: 1,
    error: null,
    trigger: 'manual',
    trigger_reason: '',
    created_at: '2026-11-01T00:00:00.000Z',
    finished_at: '2026-11-01T00:01:00.000Z',
    job: null,
  }
  const answer = (call: string) => {
    calls.push(call)
    return call.startsWith('DELETE') ? { domain: 'legal', mask_version: 7 } : update
  }
  expect((await copal(answer, ['domains', 'mask', 'legal'])).stdout).toBe(
    'm7 serves legal where a node holds it. See: npx copal domains\n',
  )
  expect((await copal(answer, ['domains', 'mask', 'legal', '--detach'])).stdout).toContain('upd_1')
  expect((await copal(answer, ['domains', 'mask', 'legal', '--remove', '--model', 'a/b'])).stdout).toBe(
    'The shared mask serves legal again, instead of m7.\n',
  )
  expect(calls).toEqual([
    'POST /admin/domains/legal/mask',
    'GET /admin/updates/upd_1',
    'POST /admin/domains/legal/mask',
    'DELETE /admin/domains/legal/mask?model=a%2Fb',
  ])
})

test('a domain that was not counted yet shows no numbers, but those of its frozen holdout', async () => {
  const entry = {
    name: 'legal',
    samples: 0,
    characters: 0,
    seen: 0,
    holdout_samples: 0,
    holdout_frozen: false,
    owner: null,
    calibrated_datasets: 3,
    last_sample_at: null,
  }
  const data = [
    { ...entry, name: 'new', counted_at: '2026-11-28T03:05:00.000Z' },
    { ...entry, counted_at: null },
    { ...entry, name: 'mail', holdout_samples: 7, holdout_frozen: true, counted_at: null },
  ]
  const { stdout } = await copal({ data }, ['domains'])
  const cells = stdout.split('\n').map((line) => line.trim().split(/\s{2,}/))
  expect(cells[1]).toEqual(['new', '0', '0', '0', '0', '3', 'shared', 'shared', 'never'])
  expect(cells[2]).toEqual(['legal', '-', '-', '-', '-', '3', 'shared', 'shared', '-'])
  expect(cells[3]?.slice(0, 5)).toEqual(['mail', '-', '-', '-', '7 frozen'])
  expect(stdout).toContain('The texts of 2 domains (-) were not counted yet.')
})

test('a large import shows how far it is, and says what arrived if it breaks off', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'copal-import-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'large.txt')
  writeFileSync(file, 'Resin hardens. '.repeat(40_000))
  const args = ['domains', 'import', 'legal', file]
  const imported = { domain: 'legal', texts: 100, pieces: 100 }
  const whole = await copal(imported, args, { piped: true })
  expect([whole.code, whole.calls.length]).toEqual([0, 2])
  expect(whole.stderr).toContain('Importing into legal   66 %  100 of 151 texts\n')
  let calls = 0
  const broken = await copal(() => (++calls === 1 ? imported : undefined), args, { piped: true })
  expect(broken.code).toBe(1)
  expect(broken.stderr).toMatch(
    /^copal: No gateway answers at .* 100 of 151 texts were imported\. Import the file again: they are not stored twice\.$/m,
  )
})

test('the import of one request prints its result alone', async () => {
  const { stdout, stderr } = await copal({ domain: 'legal', texts: 1, pieces: 1 }, [
    'domains',
    'import',
    'legal',
    join(import.meta.dirname, '../../../../LICENSE'),
  ])
  expect([stdout.startsWith('Imported '), stderr]).toEqual([true, ''])
})

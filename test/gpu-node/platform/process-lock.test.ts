import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import type * as files from 'node:fs'
import type * as identity from '../../../gpu-node/src/platform/process-identity.ts'
import { takeProcessLock, type ProcessLock } from '../../../gpu-node/src/platform/process-lock.ts'
import { takeNodeLock } from '../../../gpu-node/src/serving/control/node-lock.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

/** Runs just before a process checks whether the holder is alive, to simulate another process. */
let meanwhile: (() => void) | undefined
vi.mock('../../../gpu-node/src/platform/process-identity.ts', async (original) => {
  const real = await original<typeof identity>()
  return {
    ...real,
    isAlive: (pid: number) => {
      const alive = real.isAlive(pid)
      const act = meanwhile
      meanwhile = undefined
      act?.()
      return alive
    },
  }
})

/** Whether the disk is full: then a file that is written becomes an empty one. */
let isFull = false
vi.mock('node:fs', async (original) => {
  const real = await original<typeof files>()
  const write: typeof real.writeFileSync = (file, data, options) => {
    real.writeFileSync(file, isFull ? '' : data, options)
    if (!isFull) return
    const failed = { code: 'ENOSPC', syscall: 'write', errno: -28 }
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), failed)
  }
  return { ...real, writeFileSync: write }
})

let dir: string
let path: string
beforeEach(() => {
  dir = temporaryDir()
  path = join(dir, 'node.json')
})

async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', ''])
  await once(child, 'exit')
  return child.pid ?? 0
}

function taken(lock: ReturnType<typeof takeProcessLock>): ProcessLock {
  if ('holder' in lock) throw new Error(`held by ${lock.heldBy}`)
  return lock
}

test('a lock has one holder, whom errors name, and releasing it leaves no file', () => {
  const lock = taken(takeProcessLock(path, { port: 1 }))
  expect(lock.wasAbandoned).toBe(false)
  expect(takeProcessLock(path, { port: 2 })).toMatchObject({
    holder: { host: hostname(), pid: process.pid, port: 1 },
    heldBy: `pid ${process.pid}`,
  })
  lock.release()
  expect(readdirSync(dir)).toEqual([])
})

test('a full disk is an error that names the home of the node, and leaves no file there', () => {
  isFull = true
  onTestFinished(() => void (isFull = false))
  expect(() => takeNodeLock(dir)).toThrow(`No disk space left in ${dir} for the files of this node.`)
  expect(readdirSync(dir)).toEqual([])
})

test('the lock of another host is held, whatever its pid is here, and the error names host, file and remedy', async () => {
  const theirs = JSON.stringify({ host: 'elsewhere', pid: await deadPid(), startTicks: '1' })
  writeFileSync(path, theirs)
  const refused = takeProcessLock(path, {})
  expect(refused).toMatchObject({ holder: { host: 'elsewhere' } })
  expect(refused).toHaveProperty(
    'heldBy',
    expect.stringMatching(`on host 'elsewhere' .if it no longer runs there, remove ${path}`),
  )
  expect(readFileSync(path, 'utf8')).toBe(theirs)
  expect(readdirSync(dir)).toEqual(['node.json'])
})

test('releasing does not remove the lock of a new holder', () => {
  const lock = taken(takeProcessLock(path, {}))
  writeFileSync(path, JSON.stringify({ host: 'elsewhere', pid: 1 }))
  lock.release()
  expect(existsSync(path)).toBe(true)
})

test('if two processes find an abandoned lock, one gets it and the other an error', async () => {
  writeFileSync(path, JSON.stringify({ host: hostname(), pid: await deadPid(), startTicks: '1' }))
  let first: ProcessLock | undefined
  meanwhile = () => {
    first = taken(takeProcessLock(path, { first: true }))
  }
  const second = takeProcessLock(path, {})
  expect(first?.wasAbandoned).toBe(true)
  expect(second).toMatchObject({ holder: { pid: process.pid, first: true } })
  first?.release()
  expect(readdirSync(dir)).toEqual([])
})

test('a process that ended while it took over an abandoned lock does not block others', async () => {
  const abandoned = JSON.stringify({ host: hostname(), pid: await deadPid(), startTicks: '1' })
  writeFileSync(path, abandoned)
  const name = createHash('sha256').update(abandoned).digest('hex').slice(0, 16)
  writeFileSync(
    `${path}.${name}`,
    JSON.stringify({ host: hostname(), pid: await deadPid(), startTicks: '2' }),
  )
  taken(takeProcessLock(path, {})).release()
  expect(readdirSync(dir)).toEqual([])
})

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { afterAll, describe, expect, test } from 'vitest'
import { takeHomeLock } from '../../../../infra/local/service/home-lock.ts'
import { makeHomeDir, openHome } from '../../../../infra/local/service/home.ts'
import { readSettings } from '../../../../infra/local/service/service-settings.ts'

const dir = mkdtempSync(join(tmpdir(), 'copal-home-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))
const freshHome = () => mkdtempSync(join(dir, 'home-'))
const mode = (path: string) => statSync(path).mode & 0o777

describe('openHome', () => {
  test('makes secrets once and keeps them', () => {
    const home = freshHome()
    const first = openHome(home).secrets
    expect(first.nodeSecret).toMatch(/^[0-9a-f]{64}$/)
    expect(first.adminKey.length).toBeGreaterThan(32)
    expect(openHome(home).secrets).toEqual(first)
    expect(openHome(freshHome()).secrets.adminKey).not.toBe(first.adminKey)
  })

  test('credentials tell programs how to call the service, and only the owner can read them', () => {
    const home = openHome(join(freshHome()))
    home.saveApiKey('sk-1', 'http://127.0.0.1:8787')
    const { adminKey } = home.secrets
    expect(JSON.parse(readFileSync(join(home.dir, 'credentials.json'), 'utf8'))).toEqual({
      baseUrl: 'http://127.0.0.1:8787',
      apiKey: 'sk-1',
      adminKey,
    })
    for (const name of ['credentials.json', 'secrets.json', 'gateway.env'])
      expect(mode(join(home.dir, name))).toBe(0o600)
    expect(openHome(home.dir).secrets.apiKey).toBe('sk-1')
  })

  test('a home without a pepper gets one and keeps everything else', () => {
    const home = freshHome()
    const old = { nodeSecret: 'n'.repeat(64), adminKey: 'copal-admin-old', apiKey: 'sk-copal-old' }
    writeFileSync(join(home, 'secrets.json'), JSON.stringify(old))
    const { secrets, gatewayEnvPath } = openHome(home)
    expect(secrets).toEqual({ ...old, keyPepper: expect.stringMatching(/^[0-9a-f]{64}$/) as string })
    expect(openHome(home).secrets).toEqual(secrets)
    expect(readFileSync(gatewayEnvPath, 'utf8')).toContain(`KEY_PEPPER=${secrets.keyPepper}\n`)
  })

  test('gives the gateway the hash of the admin key, never the key', () => {
    const home = openHome(freshHome())
    const text = readFileSync(home.gatewayEnvPath, 'utf8')
    expect(text).toContain(
      `ADMIN_KEY_SHA256=${createHash('sha256').update(home.secrets.adminKey).digest('hex')}`,
    )
    expect(text).not.toContain(home.secrets.adminKey)
  })

  test('a new home is closed to other users, and so is an old one that they could read', () => {
    const home = join(freshHome(), 'below')
    makeHomeDir(home)
    expect(mode(home)).toBe(0o700)
    openHome(home)
    chmodSync(home, 0o755)
    makeHomeDir(home)
    expect(mode(home)).toBe(0o700)
  })

  test('a shared folder keeps its mode, but only the owner can read the secrets and the state in it', () => {
    const readable = freshHome()
    chmodSync(readable, 0o755)
    makeHomeDir(readable)
    expect(mode(readable)).toBe(0o755)
    const shared = freshHome()
    chmodSync(shared, 0o777)
    for (let start = 0; start < 2; start++) {
      makeHomeDir(shared)
      openHome(shared).saveApiKey('sk-1', 'http://127.0.0.1:8787')
      expect(mode(shared)).toBe(0o777)
    }
    for (const name of ['credentials.json', 'secrets.json', 'gateway.env'])
      expect(mode(join(shared, name))).toBe(0o600)
    expect(mode(join(shared, 'state'))).toBe(0o700)
    chmodSync(join(shared, 'state'), 0o755)
    expect(mode(openHome(shared).stateDir)).toBe(0o700)
  })

  test('damaged secrets are an error that says what to do', () => {
    const home = freshHome()
    writeFileSync(join(home, 'secrets.json'), '{"nodeSecret": 5')
    expect(() => openHome(home)).toThrow(/secrets\.json is damaged\. Remove it/)
  })

  test('a home that cannot be created is an error that names it', () => {
    const file = join(freshHome(), 'file')
    writeFileSync(file, '')
    expect(() => makeHomeDir(join(file, 'home'))).toThrow(/Set COPAL_HOME/)
  })
})

describe('takeHomeLock', () => {
  test('a second service with the same home is an error that names the running process', () => {
    const home = freshHome()
    const lock = takeHomeLock(home, 8787)
    expect(lock.wasAbandoned).toBe(false)
    expect(() => takeHomeLock(home, 9000)).toThrow(
      `already running with this home (${home}): pid ${process.pid}, port 8787`,
    )
    lock.release()
    takeHomeLock(home, 9000).release()
  })

  test('a lock of a process that has ended is taken over', async () => {
    const home = freshHome()
    const dead = spawn(process.execPath, ['-e', ''])
    await once(dead, 'exit')
    writeFileSync(join(home, 'running.json'), JSON.stringify({ pid: dead.pid, port: 1 }))
    expect(takeHomeLock(home, 8787).wasAbandoned).toBe(true)
  })

  test('a lock whose pid now belongs to another process is taken over', () => {
    const home = freshHome()
    writeFileSync(join(home, 'running.json'), JSON.stringify({ pid: process.pid, startTicks: '1', port: 1 }))
    expect(takeHomeLock(home, 8787).wasAbandoned).toBe(true)
  })

  test('a half-written lock is taken over', () => {
    const home = freshHome()
    writeFileSync(join(home, 'running.json'), '{"pid":')
    expect(takeHomeLock(home, 8787).wasAbandoned).toBe(true)
  })
})

test('the gateway gets the token of the recogniser in its file of secrets, not as an argument', () => {
  const { gatewayVariables, recogniserToken } = readSettings({
    COPAL_RECOGNISER_URL: 'http://127.0.0.1:9',
    COPAL_RECOGNISER_TOKEN: 'a#b=',
  })
  expect(gatewayVariables).toEqual({
    COPAL_ADAPTATION: 'local',
    COPAL_RECOGNISER_URL: 'http://127.0.0.1:9',
  })
  const home = freshHome()
  const written = (token?: string) => parseEnv(readFileSync(openHome(home, token).gatewayEnvPath, 'utf8'))
  expect(written(recogniserToken)).toHaveProperty('COPAL_RECOGNISER_TOKEN', 'a#b=')
  expect(written()).not.toHaveProperty('COPAL_RECOGNISER_TOKEN')
  for (const token of ["it's", '"a" #b', 'a`b', "'a"])
    expect(written(token)).toHaveProperty('COPAL_RECOGNISER_TOKEN', token)
  expect(() => written("a'b`c")).toThrow('COPAL_RECOGNISER_TOKEN has both an apostrophe and a backtick')
})

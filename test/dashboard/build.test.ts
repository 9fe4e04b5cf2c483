import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '..', '..')
let folder = ''
let printed = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'copal-dashboard-'))
  printed = execFileSync(process.execPath, [join(ROOT, 'gateway/dashboard/build.mjs'), folder], {
    encoding: 'utf8',
  })
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('the dashboard is at most 100 KB compressed in all', () => {
  const [, total] = /In all ([\d.]+) KB compressed/.exec(printed) ?? []
  expect(Number(total)).toBeGreaterThan(10)
  expect(Number(total)).toBeLessThanOrEqual(100)
})

test('the page loads its own files by the hashes of their contents and has nothing inline', () => {
  const page = readFileSync(join(folder, 'index.html'), 'utf8')
  const files = readdirSync(folder)
  const loaded = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path ?? '')
  expect(loaded).toHaveLength(4)
  for (const path of loaded) expect(files).toContain(path.replace(/^\/dashboard\//, ''))
  expect(loaded.filter((path) => !/^\/dashboard\/[a-z]+-[A-Z0-9]{8}\.(js|css|svg)$/.test(path))).toEqual([])
  expect(page).toContain('`npx copal status`')
  expect(page).not.toMatch(/<style|style="|<script(?![^>]* src=)/)
})

test('no file loads anything from elsewhere or holds the schemas of the API', () => {
  for (const file of readdirSync(folder)) {
    const text = readFileSync(join(folder, file), 'utf8')
    const addresses = [...text.matchAll(/https?:\/\/[\w.-]+/g)].map(([address]) => address)
    expect(addresses.filter((address) => !/w3\.org|dashboard\.invalid/.test(address))).toEqual([])
    expect(text).not.toContain('ZodObject')
  }
})

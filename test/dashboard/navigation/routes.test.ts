import { expect, test } from 'vitest'
import { hrefOf, matchRoute, pathBelow, paths } from '../../../gateway/dashboard/src/navigation/routes.ts'

test('a pattern matches the paths of its segments and decodes its parameters', () => {
  expect(matchRoute('/domains/:name', '/domains/a%2Fb')).toEqual({ name: 'a/b' })
  expect(matchRoute('/', '/')).toEqual({})
  expect(matchRoute('/domains', '/domains/x')).toBeUndefined()
  expect(matchRoute('/domains/:name', '/masks/x')).toBeUndefined()
  expect(matchRoute('/domains/:name', '/domains/%E0%A4%A')).toEqual({ name: '%E0%A4%A' })
})

test('a name with a slash or script stays one segment of its address', () => {
  const name = '<script>/x?y#z'
  expect(matchRoute('/domains/:name', new URL(`http://x${paths.domain(name)}`).pathname)).toEqual({ name })
})

test('addresses are below the dashboard and keep the chosen model', () => {
  expect(hrefOf('/')).toBe('/dashboard')
  expect(hrefOf('/domains?range=7d', { model: 'a b' })).toBe('/dashboard/domains?range=7d&model=a+b')
  expect(hrefOf('/domains?model=x', { model: 'y' })).toBe('/dashboard/domains?model=x')
  expect(['/dashboard', '/dashboard/', '/dashboard/domains/', '/dashboard/masks/3'].map(pathBelow)).toEqual([
    '/',
    '/',
    '/domains',
    '/masks/3',
  ])
})

import { expect, test } from 'vitest'
import { OPERATIONS } from '../../gateway/src/openapi/operations.ts'
import { readText, repositoryFiles } from './markdown.ts'

test('routes that documents name with their method exist', () => {
  const existing = new Set(
    OPERATIONS.map(({ method, path }) => `${method.toUpperCase()} ${withoutNames(path)}`),
  )
  const named = repositoryFiles('README.md', 'CONTRIBUTING.md', 'docs')
    .filter((path) => path.endsWith('.md'))
    .flatMap((path) =>
      [...readText(path).matchAll(/`((?:GET|POST|PUT|PATCH|DELETE) \/[^`?\s]*)/g)].map(([, call = '']) => ({
        path,
        call,
      })),
    )
    // Calls between nodes and gateway are not in the reference; an ellipsis stands for several routes.
    .filter(({ call }) => !/ \/(?:internal|rpc)\/|…/.test(call))
  expect(named.length).toBeGreaterThan(20)
  expect(named.filter(({ call }) => !existing.has(withoutNames(call)))).toEqual([])
})

/** A route with its parameters, `{id}` or `:id` or `<sha256>`, as `{}`. */
function withoutNames(path: string): string {
  return path.replace(/\{[^}]*\}|:\w+|<[^>]*>/g, '{}')
}

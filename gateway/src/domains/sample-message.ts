export type { SampleMessage } from '@copal/shared/wire/sample-message.ts'

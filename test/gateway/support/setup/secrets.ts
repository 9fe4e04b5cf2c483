/** Secrets of the gateway under test. */
export const TEST_NODE_SECRET = 'node-secret-of-the-gateway-tests'
export const TEST_KEY_PEPPER = 'key-pepper-of-the-gateway-tests-which-is-long'
export const TEST_ADMIN_KEY = 'sk-copal-admin-of-the-gateway-tests'

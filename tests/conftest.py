def pytest_addoption(parser):
    parser.addoption("--exact", action="store_true", help="the long version of tests/exactness (make test-exact)")

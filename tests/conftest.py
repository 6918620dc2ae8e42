def pytest_addoption(parser):
    parser.addoption("--exact", action="store_true", help="the long version of tests/exactness (make test-exact)")
    parser.addoption("--exact-report", metavar="FOLDER", help="where tests/exactness writes exactness.json and .md")
